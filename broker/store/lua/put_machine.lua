#!lua
-- PURPOSE  Keep a machine's definition as its next revision.
-- KEYS     machine machines
-- ARGV     name        text
--          definition  json
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done, the new revision.
local revision = redis.call('HINCRBY', machine, 'latest', 1)
redis.call('HSET', machine, revision, definition)
redis.call('SADD', machines, name)
return {'done', revision}
