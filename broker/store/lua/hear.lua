#!lua
-- PURPOSE  Note that a launcher is there, and find what its dispatch key was given before.
-- USES     time heard
-- KEYS     launchers launchers_of reports dispatch_key
-- ARGV     launcher    text
--          silence_ms  ms
-- RETURN   repeated empty full
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
-- Answers  repeated and the dispatch, or empty; or full when as many launchers of its token as may be are there.
if not note_heard(launcher) then return {'full'} end
local known = redis.call('GET', dispatch_key)
if known then return {'repeated', known} end
return {'empty'}
