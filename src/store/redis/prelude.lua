-- What every script about the log begins with. KEYS: 1 position, 2 log, 3 names, 4 expiries. ARGV[1]: an epoch for a log without one.
--
--   position  hash: epoch, and seq, the number of the newest entry
--   log       sorted set: sealed entry by number
--   names     hash: number by name of the revocation
--   expiries  sorted set: name by expiry
--
-- Whatever is in there may have been written by somebody else; nothing in it may stop the script.
local MOST = 9007199254740991 -- 2^53 - 1: larger numbers are not exact here

local function plain(number)
  return string.format('%.0f', number)
end

local function newest()
  local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return tonumber(last[2] or '0') or 0
end

local last = newest()
if not (last <= MOST) then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. plain(MOST), '+inf')
  last = newest()
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', plain(last))
end
local seq = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
if not seq or not (seq >= last and seq <= MOST) then
  seq = last
end
-- Another process may have other data, even with the same epoch: a restored dump, a promoted replica.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
