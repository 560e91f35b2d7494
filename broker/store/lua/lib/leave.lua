-- Takes the item out of `dispatched` or `running`: the dispatch, its lease and its deadline end here.
-- The vm's record keeps the act and its cause, a closed code, for the verdict that comes afterwards.
-- Remembers whose lease ended by which act, so that a repeated message gets the same answer.
-- A dispatched one that leaves may have been a canary: those that wait for it are looked at again.
-- Needs: vms stream dispatched running deadlines, item, time, event.
local function leave_dispatch(act, to, cause)
  if is.nonce then
    redis.call('HSET', item, 'closed', is.nonce, 'closed_fence', is.fence, 'closed_act', act, 'closed_state', to)
  end
  redis.call('HDEL', item, 'dispatch', 'nonce', 'claim_key', 'extended', 'dispatched_ms', 'claimed_ms',
    'run_until_ms', 'run_bound', 'may_run', 'boot_until_ms')
  redis.call('ZREM', is.state == 'running' and running or dispatched, number)
  redis.call('ZREM', deadlines, ref)
  redis.call('HINCRBY', stream, is.state, -1)
  redis.call('HSET', vms .. is.dispatch, 'over', act, 'over_code', cause, 'over_ms', now)
  if is.state == 'dispatched' then ring_ready() end
end
