#!lua
-- PURPOSE  Create a stream, or give it another spec as its next revision; the same spec again changes nothing.
-- USES     time event
-- KEYS     stream specs streams events bell
-- ARGV     job   text
--          spec  json
-- RETURN   done repeated
-- MOVES    none
-- EMITS    stream.created
-- COST     O(1)
-- Answers  done or repeated, the revision that holds now.
local revision = redis.call('HGET', stream, 'revision')
if revision and redis.call('HGET', specs, revision) == spec then return {'repeated', tonumber(revision)} end

local is_new = not revision
if is_new then redis.call('HSET', stream, 'epoch', now, 'created_ms', now) end
revision = redis.call('HINCRBY', stream, 'revision', 1)
redis.call('HSET', specs, revision, spec)
redis.call('SADD', streams, job)
if is_new then emit('stream.created', '', {revision = revision}) end
return {'done', revision}
