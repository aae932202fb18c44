-- KEYS: 1 a name that nothing is stored under. ARGV: 1 a channel. Tries every command that the
-- gateway needs, and returns the first that fails with its error, or nothing. That Redis is out of
-- memory is no failure: reads, removals and revocations work all the same.
local key = KEYS[1]
local calls = {
  { 'DEL', key },
  { 'HSET', key, 'a', '1' },
  { 'HGET', key, 'a' },
  { 'HDEL', key, 'a' },
  { 'ZADD', key, '1', 'a' },
  { 'ZCARD', key },
  { 'ZCOUNT', key, '-inf', '+inf' },
  { 'ZSCORE', key, 'a' },
  { 'ZRANGEBYSCORE', key, '-inf', '+inf' },
  { 'ZREVRANGE', key, '0', '0' },
  { 'ZREMRANGEBYSCORE', key, '1', '1' },
  { 'ZREM', key, 'a' },
  { 'SET', key, 'a', 'PX', '1000' },
  { 'GETRANGE', key, '0', '0' },
  { 'DEL', key },
  { 'TIME' },
  { 'INFO', 'server' },
  { 'PUBLISH', ARGV[1], '0' },
}
for _, call in ipairs(calls) do
  local answer = redis.pcall(unpack(call))
  if type(answer) == 'table' and answer.err and string.sub(answer.err, 1, 3) ~= 'OOM' then
    return { call[1], answer.err }
  end
end
return {}
