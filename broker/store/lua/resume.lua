#!lua flags=allow-oom
-- PURPOSE  Let a paused stream give out again.
-- USES     time event ring
-- KEYS     stream ready events feed life bell ready_bell ring user_ring fair account
-- ARGV     user  text
--          job   text
--          by    text
-- RETURN   done repeated purging missing
-- MOVES    none
-- EMITS    stream.resumed
-- COST     O(1)
local known = redis.call('HMGET', stream, 'revision', 'paused')
if not known[1] then return {'missing'} end
if not known[2] then return {'repeated'} end
if known[2] == 'purging' then return {'purging'} end
redis.call('HDEL', stream, 'paused', 'paused_sentence', 'paused_ms', 'faulty')
if redis.call('EXISTS', ready) == 1 then join_rings() end
emit('stream.resumed', '', {code = known[2], by = by})
ring_ready()
return {'done'}
