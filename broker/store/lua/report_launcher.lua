#!lua
-- PURPOSE  Note that a launcher is there, and what it tells of itself and its node.
-- USES     time heard
-- KEYS     launchers launchers_of reports
-- ARGV     launcher    text
--          report      json
--          serves      text
--          labels      json
--          silence_ms  ms
-- RETURN   done full
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
-- Answers  done, or full when as many launchers of its token as may be are there.
if not note_heard(launcher) then return {'full'} end

local record = reports .. launcher
redis.call('HSET', record, 'report', report, 'serves', serves, 'labels', labels, 'told_ms', now)
redis.call('PEXPIRE', record, LAUNCHER_KEEP_MS)
return {'done'}
