#!lua flags=allow-oom
-- PURPOSE  Show that a launcher attends to its vm; while dispatched it moves the deadline.
-- USES     time item closing heard
-- KEYS     items vms deadlines launchers launchers_of reports
-- ARGV     user         text
--          job          text
--          number       text
--          dispatch     uuid
--          launcher     text
--          silence_ms   ms
--          stops_in_ms  text
-- RETURN   own closing cancelled over missing
-- MOVES    dispatched -> dispatched, running -> running
-- EMITS    none
-- COST     O(log deadlines)
-- Answers  own, the state and the milliseconds to the deadline; or closing, cancelled or over. The first deadline does
--          not move: only the phase `preparing` ends it. `stops_in_ms`, '' is none: the vm ends then, and its guest is
--          told to drain.
local told = redis.call('HMGET', vms .. dispatch, 'launcher', 'over', 'over_ms')
if told[1] ~= launcher then return {'missing'} end

note_heard(launcher)
if is.dispatch ~= dispatch then return {closing(told[2], told[3])} end
if stops_in_ms ~= '' then redis.call('HSET', vms .. dispatch, 'stops_ms', now + tonumber(stops_in_ms)) end
if is.state == 'dispatched' and is.boot_until_ms then
  redis.call('ZADD', deadlines, math.min(tonumber(is.boot_until_ms), now + silence_ms), ref)
end
return {'own', is.state, math.max(0, (redis.call('ZSCORE', deadlines, ref) or now) - now)}
