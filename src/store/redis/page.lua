-- KEYS: 1 log. ARGV: 1 number before the page, 2 most entries, 3 longest entry. A longer entry is
-- not authentic, and is removed. Entries are marked with 'b', so that none is taken for the first
-- word of a message.
local page = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #page, 2 do
  if #page[i] > tonumber(ARGV[3]) then
    redis.call('ZREM', KEYS[1], page[i])
    page[i] = ''
  else
    page[i] = 'b' .. page[i]
  end
end
return page
