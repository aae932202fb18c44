-- What stands under a place: nothing, 'b' and the bytes (as many as a record may have, and one more), or 'o' for another type.
local function stored(key)
  local bytes = redis.pcall('GETRANGE', key, 0, tonumber(ARGV[1]))
  if type(bytes) ~= 'string' then
    return 'o'
  end
  if bytes == '' then
    return ''
  end
  return 'b' .. bytes
end

