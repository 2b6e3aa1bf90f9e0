-- Takes one unit of every window, or nothing at all (GCRA).
--
-- KEYS: one bucket for each window, shortest window first. A bucket is the
-- microsecond since 2026 by which it is full again; it expires when it is full.
-- ARGV: for each bucket the microseconds in which one unit comes back, how many
-- units it holds, and how many microseconds' worth the caller knows to be spent,
-- which counts only if the bucket is not there (it is full, or was lost).
--
-- Answers with the place of the window that refuses (0: all were taken), the
-- microseconds until a retry passes, and what is spent of each bucket now.
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local stored = redis.call('MGET', unpack(KEYS))
local spent, anew, refused, wait = {}, {}, 0, 0
for i = 1, #KEYS do
  local unit, burst, known = ARGV[3 * i - 2] + 0, ARGV[3 * i - 1] + 0, ARGV[3 * i] + 0
  local refill = unit * burst
  -- What stands here and is none of ours, as a text or an infinity, would fail every call
  -- under this name: it counts as not there, and is written over.
  local full_at = tonumber(stored[i])
  if full_at and full_at - full_at ~= 0 then full_at = nil end
  if full_at then known = full_at - now end
  -- A clock that was set back empties a bucket, and no more. That is written even if
  -- the call is refused: else the wait that is told would begin anew with each retry.
  spent[i] = math.min(math.max(known, 0), refill)
  anew[i] = not full_at or known > refill
  local lacking = spent[i] + unit - refill
  if lacking > 0 and (refused > 0 or lacking > 0.5) then
    if refused == 0 then refused = i end
    wait = math.max(wait, lacking)
  end
end
local answer = { refused, math.ceil(wait) }
for i = 1, #KEYS do
  if refused == 0 then spent[i] = spent[i] + ARGV[3 * i - 2] end
  if refused == 0 or (anew[i] and spent[i] > 0) then
    local full_at = string.format('%.3f', now + spent[i])
    -- Two seconds more: a caller's own figure must be outdated by then.
    redis.call('SET', KEYS[i], full_at, 'PX', math.ceil(spent[i] / 1000) + 2000)
  end
  answer[i + 2] = math.ceil(spent[i])
end
return answer
