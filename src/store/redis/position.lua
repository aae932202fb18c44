-- The number of entries that expire later than the given time: by expiries or by the log, whichever
-- is less. The answer begins with a word of this script: one that began with a word such as
-- `subscribe`, which somebody else may have written, would be taken for a message.
local dated = redis.call('ZCARD', KEYS[4])
local later = redis.call('ZCOUNT', KEYS[4], '(' .. ARGV[2], '+inf')
local logged = redis.call('ZCARD', KEYS[2]) - (dated - later)
return { '1', epoch, run, plain(seq), plain(math.max(0, math.min(later, logged))) }
