#!lua flags=allow-oom
-- PURPOSE  Keep what became of an attempt to tell a server of an event.
-- USES     time telling
-- KEYS     owing outbox_of owed_of out_of delivered_of dead_of callbacks_of callback_ids_of accounts outbox_bell
-- ARGV     user      text
--          entry     text
--          state     text
--          sentence  text
--          status    text
--          again_ms  ms
-- RETURN   done missing
-- MOVES    none
-- EMITS    none
-- COST     O(log owed)
-- `status`: '' without an answer of the server's. Answers missing when it is owed no more; one that was given up and
-- is delivered after all is delivered.
local waiting, out, dead = owed_of .. user, out_of .. user, dead_of .. user
local is_late = state == 'delivered' and redis.call('ZSCORE', dead, entry)
if not is_late and not redis.call('ZSCORE', waiting, entry) then return {'missing'} end

redis.call('ZREM', out, entry)
redis.call('HSET', callbacks_of .. user .. '/' .. entry, 'last_ms', now, 'sentence', sentence, 'status', status)
if state == 'waiting' then
  redis.call('ZADD', waiting, now + again_ms, entry)
else
  redis.call('ZREM', waiting, entry)
  redis.call('ZREM', dead, entry)
  redis.call('ZADD', state == 'dead' and dead or delivered_of .. user, now, entry)
  drop_old(user)
end
local at = next_look(user)
redis.call('ZADD', owing, 'LT', at, user)
-- More of the user's is due, that waited for this one: not each of them wakes whoever gives out.
if at <= now and 2 * redis.call('ZCARD', out) <= CALLBACKS_OUT then redis.call('PUBLISH', outbox_bell, '') end
return {'done'}
