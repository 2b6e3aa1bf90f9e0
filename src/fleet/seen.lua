-- Notes that something was seen, forgets what was not seen for a while, and answers
-- with how many different things were.
--
-- KEYS[1]: what was seen, by the millisecond in which it was seen last.
-- ARGV: what was seen, after how many milliseconds it is forgotten, and how many
-- milliseconds ago it was seen.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local at = now - ARGV[3]
local before = redis.pcall('ZSCORE', KEYS[1], ARGV[1])
if type(before) == 'table' then
  -- What stands here and is none of ours would fail every note under this name.
  if not string.find(before.err, 'WRONGTYPE', 1, true) then return before end
  redis.call('DEL', KEYS[1])
  before = false
end
before = tonumber(before)
-- What comes late must not hide that it was seen again meanwhile. Once the clock was set
-- back, what is seen again has the new time; what is not keeps the old one.
if not before or before < at or before > now then redis.call('ZADD', KEYS[1], at, ARGV[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
