#!lua
-- PURPOSE  Note that a launcher is there, and what it tells of itself and its node.
-- USES     time
-- KEYS     launchers record
-- ARGV     launcher  text
--          report    json
--          serves    text
-- RETURN   done full
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
-- Answers  done, or full when so many were heard of in the last day that another one is not kept.
redis.call('ZREMRANGEBYSCORE', launchers, '-inf', now - LAUNCHER_KEEP_MS)
if not redis.call('ZSCORE', launchers, launcher) and redis.call('ZCARD', launchers) >= LAUNCHERS then return {'full'} end

redis.call('ZADD', launchers, now, launcher)
redis.call('HSET', record, 'report', report, 'serves', serves, 'told_ms', now)
redis.call('PEXPIRE', record, LAUNCHER_KEEP_MS)
return {'done'}
