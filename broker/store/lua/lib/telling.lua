-- What a user's servers are owed: an entry of the outbox is in `owed` while it waits, by when it is due, then in
-- `delivered` or `dead`, by when it was; in `out` while somebody was given it to tell, until it is taken for lost. A
-- callback that was begun has a record. `owing`: users, by when they are to be looked at again.
-- Needs: time. Keys: owing outbox_of owed_of out_of delivered_of dead_of callbacks_of callback_ids_of accounts.
local function soonest(list)
  return tonumber(redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')[2])
end

-- Removes what was kept for long enough, and the oldest of more than are kept; a part of it, the rest at the next look.
local function drop(user, list, most, keep_ms)
  local old = redis.call('ZRANGE', list, '-inf', now - keep_ms, 'BYSCORE', 'LIMIT', 0, DROPPED)
  local beyond = math.min(redis.call('ZCARD', list) - most, DROPPED)
  if beyond > #old then old = redis.call('ZRANGE', list, 0, beyond - 1) end
  for _, entry in ipairs(old) do
    local record = callbacks_of .. user .. '/' .. entry
    redis.call('HDEL', callback_ids_of .. user, redis.call('HGET', record, 'id') or '')
    redis.call('DEL', record)
    redis.call('XDEL', outbox_of .. user, entry)
    redis.call('ZREM', list, entry)
  end
  return #old
end

local function drop_old(user)
  drop(user, delivered_of .. user, DELIVERED, DELIVERED_KEEP_MS)
  local lost = drop(user, dead_of .. user, DEAD, DEAD_KEEP_MS)
  if lost > 0 then redis.call('HINCRBY', accounts .. user, 'callbacks_dropped', lost) end
end

-- When the user is to be looked at again, for what is due or was kept for long enough; nil is never.
local function next_look(user)
  local at = soonest(owed_of .. user)
  local kept = {[delivered_of .. user] = DELIVERED_KEEP_MS, [dead_of .. user] = DEAD_KEEP_MS}
  for list, keep_ms in pairs(kept) do
    local since = soonest(list)
    if since then at = math.min(at or math.huge, since + keep_ms) end
  end
  return at
end
