-- The number of entries that expire later than the given time: by expiries or by the log, whichever
-- is less.
local dated = redis.call('ZCARD', KEYS[4])
local later = redis.call('ZCOUNT', KEYS[4], '(' .. ARGV[2], '+inf')
local logged = redis.call('ZCARD', KEYS[2]) - (dated - later)
return { epoch, run, plain(seq), plain(math.max(0, math.min(later, logged))) }
