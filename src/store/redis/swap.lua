-- KEYS: every place of a name, the one to write first. ARGV: 1 longest record, 2 the record, 3 its
-- expiry in milliseconds, then the expected content of each place.
for i, key in ipairs(KEYS) do
  if stored(key) ~= ARGV[i + 3] then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
for i = 2, #KEYS do
  redis.call('DEL', KEYS[i])
end
return 1
