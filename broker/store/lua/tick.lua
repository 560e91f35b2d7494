#!lua flags=allow-oom
-- PURPOSE  Note a tick of the clock, and whether the clock, the broker or the store was away since the last one.
-- USES     time
-- KEYS     clock due deadlines bulks
-- ARGV     away_ms        ms
--          lease_ms       ms
--          most_promoted  int
--          most_expired   int
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(what is due), bounded
-- Answers  done, now, since when launchers could be heard, the delayed items whose time has come, the dispatches and leases
--          whose deadline has passed, and the streams with a bulk act. After a gap nothing expires for as long as the gap
--          was, at most for a lease: who is alive has extended by then.
local was = redis.call('HMGET', clock, 'ticked_ms', 'hold_until_ms', 'back_ms')
local hold_until, back = tonumber(was[2]) or 0, tonumber(was[3]) or 0
local gap = was[1] and math.abs(now - tonumber(was[1])) or 0
if gap > away_ms then
  hold_until = now + math.min(gap, lease_ms)
  back = now
end
redis.call('HSET', clock, 'ticked_ms', now, 'hold_until_ms', hold_until, 'back_ms', back)
local past = redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, most_promoted)
local overdue = {}
if now >= hold_until then
  overdue = redis.call('ZRANGE', deadlines, '-inf', now, 'BYSCORE', 'LIMIT', 0, most_expired)
end
return {'done', now, back, past, overdue, redis.call('ZRANGE', bulks, 0, 9)}
