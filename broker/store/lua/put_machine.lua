#!lua
-- PURPOSE  Keep a machine's definition as its next revision; the same definition again changes nothing.
-- KEYS     machine machines
-- ARGV     name        text
--          definition  json
-- RETURN   done repeated
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done or repeated, the revision that holds now.
local latest = redis.call('HGET', machine, 'latest')
if latest and redis.call('HGET', machine, latest) == definition then return {'repeated', tonumber(latest)} end

local revision = redis.call('HINCRBY', machine, 'latest', 1)
redis.call('HSET', machine, revision, definition)
redis.call('SADD', machines, name)
return {'done', revision}
