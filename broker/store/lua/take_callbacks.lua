#!lua flags=allow-oom
-- PURPOSE  Give out what users' servers are to be told now, the oldest of each user first, users in turn.
-- USES     time telling
-- KEYS     owing outbox_of owed_of out_of delivered_of dead_of callbacks_of callback_ids_of accounts
-- ARGV     most           int
--          most_per_user  int
--          visible_ms     ms
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(users looked at, and callbacks given out)
-- Answers  done, then user and entry of each in turn. Who has `most_per_user` out waits until one of them is noted.
--          What is not noted within `visible_ms` is due again: whoever had it may be dead.
local given = {}
for _, user in ipairs(redis.call('ZRANGE', owing, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)) do
  local waiting, out = owed_of .. user, out_of .. user
  drop_old(user)
  redis.call('ZREMRANGEBYSCORE', out, '-inf', now)
  local room = math.min(most_per_user - redis.call('ZCARD', out), most - #given / 2)
  local due = room > 0 and redis.call('ZRANGE', waiting, '-inf', now, 'BYSCORE', 'LIMIT', 0, room) or {}
  for _, entry in ipairs(due) do
    redis.call('ZADD', waiting, now + visible_ms, entry)
    redis.call('ZADD', out, now + visible_ms, entry)
    given[#given + 1], given[#given + 2] = user, entry
  end
  local at = next_look(user)
  if at and at <= now and redis.call('ZCARD', out) >= most_per_user then at = soonest(out) end
  if at then
    -- Behind whoever has waited longer for their turn.
    redis.call('ZADD', owing, math.max(at, now), user)
  else
    redis.call('ZREM', owing, user)
  end
  if #given >= 2 * most then break end
end
return {'done', unpack(given)}
