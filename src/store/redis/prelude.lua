-- The beginning of every script about the log. KEYS: 1 position, 2 log, 3 names, 4 expiries. ARGV:
-- 1 an epoch for a log without one, 2 a time.
--
--   position  hash: epoch, and seq, the number of the newest entry
--   log       sorted set: sealed entry by number
--   names     hash: number by name of the revocation
--   expiries  sorted set: name by expiry
--
-- Somebody else may have written any of it; nothing in it may stop the script.
local MOST = 9007199254740991 -- 2^53 - 1: larger numbers are not exact here

local function plain(number)
  return string.format('%.0f', number)
end

local function newest()
  local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  return tonumber(last[2] or '0') or 0
end

local function forget(name)
  local number = tonumber(redis.call('HGET', KEYS[3], name) or '')
  if number then
    redis.call('ZREMRANGEBYSCORE', KEYS[2], plain(number), plain(number))
  end
  redis.call('HDEL', KEYS[3], name)
  redis.call('ZREM', KEYS[4], name)
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
-- A restored dump or a promoted replica may have other data with the same epoch, so the run id
-- counts, too.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''

-- Removes, some at a time, what expired five minutes ago by both clocks, which may differ. Entry,
-- name and expiry are removed together, or the count of entries would be wrong.
local ended = math.min(tonumber(ARGV[2]), tonumber(redis.call('TIME')[1])) - 300
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', plain(ended), 'LIMIT', 0, 100)) do
  forget(name)
end
