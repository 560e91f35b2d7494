#!lua
-- PURPOSE  Create a stream, or give it another spec as its next revision; the same spec again changes nothing.
-- USES     time event bulk
-- KEYS     stream specs streams events feed life bell ready_bell account bulk machine readers machine_streams
--          machine_streams_of
-- ARGV     user      text
--          job       text
--          spec      json
--          named     text
--          is_own    flag
--          most      int
--          revisions int
--          callback  text
-- RETURN   done repeated missing full purging
-- MOVES    none
-- EMITS    stream.created
-- COST     O(1)
-- Answers  done or repeated, the revision that holds now; missing when the machine `named` is not there, or not shared
--          with the user; full, `streams` or `revisions`, and the bound of them that is reached.
--          Each machine keeps the streams that name it, with '' for those that do now, and the last item that may still
--          want it for those that did.
--          `callback`: the kinds of events that the stream's server is told, with a blank around each; '' is none.
if redis.call('HEXISTS', machine, 'latest') == 0 or (is_own == 0 and redis.call('SISMEMBER', readers, user) == 0) then
  return {'missing'}
end

local function tell_of(kinds)
  if kinds == '' then
    redis.call('HDEL', stream, 'callback')
  else
    redis.call('HSET', stream, 'callback', kinds)
  end
  redis.call('HDEL', stream, 'callback_off', 'callback_off_sentence', 'callback_off_ms')
end

local revision = redis.call('HGET', stream, 'revision')
if revision and is_purging() then return {'purging'} end
if revision and redis.call('HGET', specs, revision) == spec then
  -- Whoever puts it again mended the server that said that it is gone.
  tell_of(callback)
  return {'repeated', tonumber(revision)}
end

local is_new = not revision
most = tonumber(redis.call('HGET', account, 'most:streams')) or most
if is_new and redis.call('SCARD', streams) >= most then return {'full', 'streams', most} end
-- Of each revision there is its spec, and when it came.
if redis.call('HLEN', specs) >= 2 * revisions then return {'full', 'revisions', revisions} end
if is_new then
  redis.call('HSET', stream, 'created_ms', now, 'born', now,
    'revision', redis.call('HGET', account, 'revision:' .. job) or 0)
  redis.call('HSET', stream, 'first_revision', redis.call('HGET', stream, 'revision') + 1)
  redis.call('HDEL', account, 'revision:' .. job)
end
revision = redis.call('HINCRBY', stream, 'revision', 1)
redis.call('HSET', specs, revision, spec, 'put:' .. revision, now)
redis.call('SADD', streams, job)
local ref = user .. '/' .. job
local before = redis.call('HGET', stream, 'machine')
if before and before ~= named then
  redis.call('HSET', machine_streams_of .. before, ref, redis.call('HGET', stream, 'last') or 0)
end
redis.call('HSET', machine_streams, ref, '')
redis.call('HSET', stream, 'machine', named)
tell_of(callback)
if is_new then emit('stream.created', '', {revision = revision}) end
return {'done', revision}
