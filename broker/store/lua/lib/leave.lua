-- Takes the item out of `dispatched` or `running`: the dispatch, its lease and its deadline end here.
-- Remembers whose lease ended by which act, so that a repeated message gets the same answer.
-- Needs: vms stream dispatched running deadlines, item, time.
local function leave_dispatch(act, to)
  if is.nonce then
    redis.call('HSET', item, 'closed', is.nonce, 'closed_fence', is.fence, 'closed_act', act, 'closed_state', to)
  end
  redis.call('HDEL', item, 'dispatch', 'nonce', 'claim_key', 'extended', 'dispatched_ms', 'claimed_ms',
    'run_until_ms', 'boot_until_ms')
  redis.call('ZREM', is.state == 'running' and running or dispatched, number)
  redis.call('ZREM', deadlines, ref)
  redis.call('HINCRBY', stream, is.state, -1)
  redis.call('HSET', vms .. is.dispatch, 'over', act, 'over_ms', now)
  redis.call('PEXPIRE', vms .. is.dispatch, VM_KEEP_MS)
end
