#!lua
-- PURPOSE  Let another user see a machine and name it in streams of their own.
-- KEYS     machine readers
-- ARGV     reader  text
-- RETURN   done repeated missing
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done, repeated when it was shared with them already, or missing.
if redis.call('HEXISTS', machine, 'latest') == 0 then return {'missing'} end
if redis.call('SADD', readers, reader) == 0 then return {'repeated'} end
return {'done'}
