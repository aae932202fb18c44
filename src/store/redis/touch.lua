-- KEYS: 1 a name that nothing is stored under. ARGV: 1 the channel of this process, 2 a number. A
-- write that changes nothing: a replica refuses it, and so does a server that cannot keep what it
-- is given. The message comes back over the subscription. Returns the time.
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return redis.call('TIME')
