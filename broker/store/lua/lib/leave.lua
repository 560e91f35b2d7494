-- Takes the item out of `dispatched` or `running`: the dispatch, its lease and its deadline end here.
-- The vm's record keeps the act and its cause, a closed code, for the verdict that comes afterwards.
-- Remembers whose lease ended by which act, so that a repeated message gets the same answer.
-- A dispatched one that leaves may have been a canary: those that wait for it are looked at again.
-- The user's share is charged for what the vm took, or for nothing when it is `refunded`.
-- `...`: names, values of the item's in its next state, which is `to`.
-- Where its launcher's token may hold only so much, those that wait with that token are looked at again.
-- Needs: vms dispatched running deadlines holds_of, ring, counts, item, time, event.
local function leave_dispatch(act, to, cause, refunded, ...)
  local vm = vms .. is.dispatch
  if is.nonce then
    redis.call('HSET', item, 'state', to, 'closed', is.nonce, 'closed_fence', is.fence, 'closed_act', act,
      'closed_state', to, ...)
  else
    redis.call('HSET', item, 'state', to, ...)
  end
  redis.call('HDEL', item, 'dispatch', 'nonce', 'claim_key', 'extended', 'dispatched_ms', 'claimed_ms',
    'run_until_ms', 'run_bound', 'may_run', 'boot_until_ms')
  redis.call('ZREM', is.state == 'running' and running or dispatched, number)
  redis.call('ZREM', deadlines, ref)
  count_items(is.state, -1)
  local charged = redis.call('HMGET', vm, 'cost', 'vcpus', 'holder')
  if charged[1] then
    local took = refunded and 0 or tonumber(charged[2]) * math.max(0, now - tonumber(is.dispatched_ms))
    correct_rings(took - tonumber(charged[1]))
  end
  if charged[3] and redis.call('SREM', holds_of .. charged[3], is.dispatch) == 1 then ring_ready() end
  redis.call('HSET', vm, 'over', act, 'over_code', cause, 'over_ms', now)
  if is.state == 'dispatched' then ring_ready() end
end
