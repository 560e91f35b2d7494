#!lua flags=allow-oom
-- PURPOSE  Make a delayed item ready when its time has come.
-- USES     time event ring counts queue ready item bulk
-- KEYS     items stream ready ready_of delayed due events feed life bell ready_bell ring user_ring fair account bulk
-- ARGV     user    text
--          job     text
--          number  text
-- RETURN   done changed
-- MOVES    delayed -> ready
-- EMITS    item.ready
-- COST     O(log delayed)
-- changed, too, while a bulk act is about to reach it.
local at = tonumber(redis.call('ZSCORE', due, ref))
if is.state ~= 'delayed' or not at or at > now or bulk_reaches('delayed', number) then return {'changed'} end

redis.call('HSET', item, 'state', 'ready')
redis.call('HDEL', item, 'not_before_ms')
redis.call('ZREM', due, ref)
redis.call('ZREM', delayed, number)
count_items('delayed', -1)
enter_ready('last', number)
emit('item.ready', number, {state = 'ready'})
return {'done'}
