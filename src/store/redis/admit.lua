-- KEYS: the buckets. ARGV, for each: the operation, microseconds in which a unit drains, the burst.
-- Returns for each: whether it was admitted, and in how many microseconds it will have drained. If
-- one refuses, none is changed. The arithmetic is that of `limit.rs`. The clock is the server's, so
-- replicas need not agree on the time.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local answer, empty = {}, {}
local admitted = true
for i, key in ipairs(KEYS) do
  local draw = ARGV[3 * i - 2]
  local per = tonumber(ARGV[3 * i - 1])
  local room = per * tonumber(ARGV[3 * i])
  local most = now + 2 * room
  -- Somebody else may have written the value; it must not stop the script, or lock anybody out for
  -- long. But a value that may not be read is not an empty bucket. (GETRANGE, because the gateway's
  -- user needs that command anyway.)
  local written = redis.pcall('GETRANGE', key, 0, 32)
  if type(written) == 'table' and not string.find(written.err, 'WRONGTYPE', 1, true) then return written end
  local before = type(written) == 'string' and tonumber(written) or now
  if not (before >= now) then before = now end
  if before > most then before = most end
  local fits = before + per - now <= room
  local yes, after = true, before
  if draw == 'take' then
    yes = fits
    if fits then after = before + per end
  elseif draw == 'ask' then
    yes = fits
  elseif draw == 'owe' then
    after = math.min(before + per, most)
  elseif draw == 'return' then
    after = math.max(before - per, now)
  else
    after = now
  end
  admitted = admitted and yes
  empty[i] = after
  answer[2 * i - 1] = yes and '1' or '0'
  answer[2 * i] = string.format('%.0f', after - now)
end
if admitted then
  for i, key in ipairs(KEYS) do
    if ARGV[3 * i - 2] ~= 'ask' then
      if empty[i] > now then
        redis.call('SET', key, string.format('%.0f', empty[i]), 'PX', string.format('%.0f', math.ceil((empty[i] - now) / 1000)))
      else
        redis.call('DEL', key)
      end
    end
  end
end
return answer
