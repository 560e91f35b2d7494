#!lua
-- PURPOSE  Note which process serves the store: one that was not met before is another life, with new epochs of all logs.
-- USES     time
-- KEYS     life
-- ARGV     run  text
-- RETURN   done repeated
-- MOVES    none
-- EMITS    none
-- COST     O(1)
local known = redis.call('HMGET', life, 'run', 'number')
if known[1] == run then return {'repeated'} end
redis.call('HSET', life, 'run', run, 'number', math.max(now, (tonumber(known[2]) or 0) + 1))
return {'done'}
