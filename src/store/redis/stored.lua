-- The content of a place: nothing, 'b' and the bytes (at most one more than a record may have), or
-- 'o' for another type.
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

