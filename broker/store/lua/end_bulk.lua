#!lua flags=allow-oom
-- PURPOSE  End a bulk act that has looked at everything.
-- USES     time event
-- KEYS     stream bulk bulks events feed life account bell ready_bell
-- ARGV     user  text
--          job   text
--          id    text
-- RETURN   done changed
-- MOVES    none
-- EMITS    bulk.ended
-- COST     O(1)
local known = redis.call('HMGET', bulk, 'id', 'next', 'upto', 'act', 'acted', 'over_ms')
if known[1] ~= id or known[6] or tonumber(known[2]) <= tonumber(known[3]) then return {'changed'} end

redis.call('HSET', bulk, 'over_ms', now)
redis.call('ZREM', bulks, user .. '/' .. job)
emit('bulk.ended', '', {act = known[4], count = tonumber(known[5])})
ring_ready()
return {'done'}
