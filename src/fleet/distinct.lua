-- Notes that something was seen, forgets what was not seen for a while, and answers
-- with how many different things were.
--
-- KEYS[1]: what was seen, by the millisecond in which it was seen last.
-- ARGV: what is seen now, and after how many milliseconds it is forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
