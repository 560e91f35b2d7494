#!lua flags=allow-oom
-- PURPOSE  Begin a bulk act on a stream's items; from now on what it will stop or set aside counts as if it were.
-- USES     time event ring
-- KEYS     stream bulk bulks events feed life bell ready_bell ring user_ring fair account owed
-- ARGV     user       text
--          job        text
--          id         text
--          act        text
--          states     text
--          code       text
--          sentence   text
--          by         text
--          rate       int
--          most_owed  int
-- RETURN   done repeated busy missing full
-- MOVES    none
-- EMITS    bulk.started
-- COST     O(1)
-- Answers  done; repeated when the very same one goes on; busy and its act when another does. A purge takes the place of
--          any other. `states` are between commas; `rate`: items a second at most, 0 for no bound. full: of a release, and how
--          much the user's servers may be owed, when they are and the stream has one.
if redis.call('HEXISTS', stream, 'revision') == 0 then return {'missing'} end
local known = redis.call('HMGET', bulk, 'act', 'states', 'over_ms')
if known[1] and not known[3] then
  if known[1] == act and known[2] == states then return {'repeated'} end
  if act ~= 'purge' then return {'busy', known[1]} end
end

local told = redis.call('HMGET', stream, 'gone', 'last', 'callback')
if act == 'release' and told[3] and redis.call('ZCARD', owed) >= most_owed then return {'full', most_owed} end
local first, last = (tonumber(told[1]) or 0) + 1, tonumber(told[2]) or 0
redis.call('DEL', bulk)
redis.call('HSET', bulk, 'id', id, 'act', act, 'states', states, 'code', code, 'sentence', sentence, 'by', by,
  'rate', rate, 'first', first, 'next', first, 'upto', last, 'acted', 0, 'had_vm', 0, 'started_ms', now)
redis.call('ZADD', bulks, now, user .. '/' .. job)
if act == 'purge' then
  redis.call('HSET', stream, 'paused', 'purging', 'paused_sentence', sentence, 'paused_ms', now)
  leave_rings()
end
emit('bulk.started', '', {act = act, states = states, by = by})
return {'done'}
