-- ARGV: 3 the number after which the entries are sealed, 4 channel, 5 names per entry, 6 which of
-- two expiries of a name is kept: 'later' or 'earlier'; then for each entry its expiry, the sealed
-- entry, and its names, the one to write first. Returns whether it was done: numbers are inside the seals, so they must be right. The first write is a removal,
-- after which Redis lets a script add data even when it is out of memory: a revocation matters
-- more.
local after = tonumber(ARGV[3])
local names = tonumber(ARGV[5])
local width = names + 2
local missing = {}

-- Whether an entry that expires then need not be replaced by a new one.
local function is_kept(expiry, new)
  if ARGV[6] == 'earlier' then
    return expiry <= new and expiry > tonumber(ARGV[2])
  end
  return expiry >= new
end

for at = 7, #ARGV, width do
  local is_there = false
  for i = at + 2, at + width - 1 do
    local number = tonumber(redis.call('HGET', KEYS[3], ARGV[i]) or '')
    local expiry = tonumber(redis.call('ZSCORE', KEYS[4], ARGV[i]) or '')
    if number and expiry and is_kept(expiry, tonumber(ARGV[at]))
      and redis.call('ZCOUNT', KEYS[2], plain(number), plain(number)) > 0 then
      is_there = true
    end
  end
  if not is_there then
    missing[#missing + 1] = at
  end
end
if #missing == 0 then
  return { '1', epoch, run, plain(seq) }
end
if seq ~= after then
  return { '0', epoch, run, plain(seq) }
end

for _, at in ipairs(missing) do
  local number = plain(after + (at - 7) / width + 1)
  for i = at + 2, at + width - 1 do
    forget(ARGV[i])
  end
  redis.call('ZADD', KEYS[2], number, ARGV[at + 1])
  redis.call('HSET', KEYS[3], ARGV[at + 2], number)
  redis.call('ZADD', KEYS[4], ARGV[at], ARGV[at + 2])
end
seq = after + (#ARGV - 6) / width
redis.call('HSET', KEYS[1], 'seq', plain(seq))
redis.call('PUBLISH', ARGV[4], plain(seq))
return { '1', epoch, run, plain(seq) }
