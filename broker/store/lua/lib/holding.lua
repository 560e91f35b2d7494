-- Sets the item that was looked at, a ready or delayed one, aside for a person.
-- Needs: items stream delayed held due keep, item, settle, time; code sentence.
local function hold_it()
  if is.state == 'delayed' then
    redis.call('ZREM', delayed, number)
    redis.call('ZREM', due, ref)
  end
  -- Its entry in the ready list is stale from now on: another generation.
  redis.call('HINCRBY', item, 'gen', 1)
  count_items(is.state, -1)
  redis.call('HDEL', item, 'not_before_ms', 'exit_code')
  redis.call('HSET', item, 'state', 'held', 'code', code, 'sentence', sentence, 'settled_ms', now)
  redis.call('ZADD', held, now, number)
  count_items('held', 1)
  settle()
end
