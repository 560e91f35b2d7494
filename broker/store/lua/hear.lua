#!lua
-- PURPOSE  Note that a launcher is there, and find what its dispatch key was given before.
-- USES     time
-- KEYS     launchers dispatch_key
-- ARGV     launcher  text
-- RETURN   repeated empty
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
-- Answers  repeated and the dispatch, or empty.
redis.call('ZADD', launchers, now, launcher)
redis.call('ZREMRANGEBYSCORE', launchers, '-inf', now - LAUNCHER_KEEP_MS)
local known = redis.call('GET', dispatch_key)
if known then return {'repeated', known} end
return {'empty'}
