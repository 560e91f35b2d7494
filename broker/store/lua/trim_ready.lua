#!lua flags=allow-oom
-- PURPOSE  Drop stale entries at the head of a lane: items that left `ready` many at once.
-- USES     time queue stale
-- KEYS     items stream ready ready_of
-- ARGV     lane  text
-- RETURN   done again
-- MOVES    none
-- EMITS    none
-- COST     O(entries dropped), at most 500
local entries = redis.call('LRANGE', ready_of .. lane, 0, 499)
local stale = 0
while stale < #entries and is_stale(entries[stale + 1]) do stale = stale + 1 end
if stale > 0 then dequeue(lane, stale) end
if stale == 500 then return {'again'} end
return {'done'}
