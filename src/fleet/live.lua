-- Notes that a gateway lives, forgets those that were silent for too long, and
-- answers with how many live.
--
-- KEYS[1]: the gateways by the millisecond in which they were heard of last.
-- ARGV: this gateway, and after how many milliseconds of silence one is forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
