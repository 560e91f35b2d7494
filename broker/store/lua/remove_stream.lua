#!lua flags=allow-oom
-- PURPOSE  Remove a stream whose items are all removed: the end of a purge.
-- USES     time event
-- KEYS     stream account specs streams ready ready_of delayed dispatched running held cancelled done names events
--          feed life bell ready_bell bulk bulks machine_streams_of
-- ARGV     user  text
--          job   text
--          id    text
--          rest  text...
-- RETURN   done changed
-- MOVES    none
-- EMITS    stream.purged
-- COST     O(lanes and machines that were named)
-- `rest`: the machines that its specs name.
local known = redis.call('HMGET', bulk, 'id', 'act', 'upto', 'removed')
if known[1] ~= id or known[2] ~= 'purge' or tonumber(known[4] or 0) < tonumber(known[3]) then return {'changed'} end

-- Revisions of a stream made anew go on: definitions are kept in memory by their number.
redis.call('HSET', account, 'revision:' .. job, redis.call('HGET', stream, 'revision'))
emit('stream.purged', '', {})
-- Before its log and its place in it are removed, and not after.
write_events()
for index = rest, #ARGV do redis.call('HDEL', machine_streams_of .. ARGV[index], user .. '/' .. job) end
for _, lane in ipairs(redis.call('ZRANGE', ready, 0, -1)) do redis.call('UNLINK', ready_of .. lane) end
redis.call('UNLINK', stream, specs, ready, delayed, dispatched, running, held, cancelled, done, names, events, bulk)
redis.call('SREM', streams, job)
redis.call('ZREM', bulks, user .. '/' .. job)
return {'done'}
