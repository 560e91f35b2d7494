-- Stops the item that was looked at, for good; why it had failed before is kept in its sentence.
-- Needs: items vms stream delayed dispatched running held cancelled due keep deadlines, item, leave, settle, time;
-- code sentence.
local function cancel_it()
  local before, said = redis.call('HGET', item, 'sentence'), sentence
  if before then said = said .. '; before: ' .. before end
  if is.dispatch then
    leave_dispatch('cancel', 'cancelled', code, false)
  else
    if is.state == 'held' then
      redis.call('ZREM', held, number)
    elseif is.state == 'delayed' then
      redis.call('ZREM', delayed, number)
      redis.call('ZREM', due, ref)
    end
    count_items(is.state, -1)
  end
  -- Whoever had it, or may still settle it late, shows an older fence from now on; an entry in the ready list is stale.
  local fence = redis.call('HINCRBY', item, 'fence', 1)
  redis.call('HINCRBY', item, 'gen', 1)
  redis.call('HDEL', item, 'not_before_ms', 'exit_code')
  redis.call('HSET', item, 'state', 'cancelled', 'code', code, 'sentence', said, 'settled_ms', now)
  redis.call('ZADD', cancelled, now, number)
  count_items('cancelled', 1)
  settle()
  return fence, said
end
