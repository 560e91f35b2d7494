#!lua flags=allow-oom
-- PURPOSE  Exchange a ticket for the item and its lease, once; the same claim key again gets the same answer.
-- USES     time event item canary bulk
-- KEYS     items vms stream dispatched running deadlines events feed life account bell bulk
-- ARGV     user       text
--          job        text
--          number     text
--          dispatch   uuid
--          claim_key  hex
--          nonce      hex
--          lease_ms   ms
--          run_ms     ms
--          grace_ms   ms
--          guest_os   text
--          client     text
-- RETURN   done repeated replayed spent
-- MOVES    dispatched -> running
-- EMITS    item.claimed vm.claimed ticket.replayed ticket.spent
-- COST     O(log running)
-- Answers  done or repeated, the fence, the milliseconds to the deadline, those from the claim in which the item may
--          run, and its record. That is what its spec says, or less when its launcher's slot ends before; `run_ms` where
--          an older broker's dispatch did not note it. replayed: the ticket came with another
--          claim key; Python then takes the item back. At its slot's end a launcher lets its vms stop in their own
--          time: the broker itself ends the lease not before that is over, and `grace_ms` later.
local vm = vms .. dispatch
if is.dispatch == dispatch and is.state == 'running' then
  if is.claim_key ~= claim_key then
    if redis.call('HSETNX', vm, 'replayed', now) == 1 then
      emit('ticket.replayed', number, {dispatch = dispatch, fence = tonumber(is.fence)})
    end
    return {'replayed'}
  end
  if not is.extended then
    local left_ms = math.max(0, redis.call('ZSCORE', deadlines, ref) - now)
    -- Claimed at an earlier broker, it has no `may_run`.
    local may_run = tonumber(redis.call('HGET', item, 'may_run')) or run_ms
    return {'repeated', tonumber(is.fence), left_ms, may_run, redis.call('HGETALL', item)}
  end
end
if is.dispatch ~= dispatch or is.state ~= 'dispatched' or bulk_reaches('dispatched', number) then
  if redis.call('EXISTS', vm) == 1 and redis.call('HSETNX', vm, 'spent', now) == 1 then
    emit('ticket.spent', number, {dispatch = dispatch, fence = tonumber(redis.call('HGET', vm, 'fence'))})
  end
  return {'spent'}
end

local told = redis.call('HMGET', vm, 'slot_ends_ms', 'slot_over_ms', 'run_limit', 'machine_revision')
local slot_ends_ms, slot_over_ms = tonumber(told[1]), tonumber(told[2] or told[1])
run_ms = tonumber(told[3]) or run_ms
local may_run, run_until_ms, run_bound = run_ms, now + run_ms, 'limit'
if slot_ends_ms and slot_ends_ms < run_until_ms then
  may_run, run_bound = math.max(0, slot_ends_ms - now), 'slot'
  run_until_ms = math.min(run_until_ms, slot_over_ms + grace_ms)
end
local deadline = math.min(now + lease_ms, run_until_ms)
redis.call('HSET', item, 'state', 'running', 'nonce', nonce, 'claim_key', claim_key, 'claimed_ms', now,
  'run_until_ms', run_until_ms, 'run_bound', run_bound, 'may_run', may_run)
redis.call('ZREM', dispatched, number)
redis.call('ZADD', running, now, number)
redis.call('ZADD', deadlines, deadline, ref)
redis.call('HINCRBY', stream, 'dispatched', -1)
redis.call('HINCRBY', stream, 'running', 1)
redis.call('HSET', vm, 'fact:guest_os', guest_os, 'fact:client', client)
local revision = redis.call('HGET', item, 'revision')
local machine_revision = tonumber(told[4])
if not is_proven(revision, machine_revision) then
  prove(revision, machine_revision)
  ring_ready()
end
redis.call('HDEL', stream, 'faulty')
emit('item.claimed', number, {state = 'running', dispatch = dispatch, fence = tonumber(is.fence), guest_os = guest_os})
if redis.call('HSETNX', vm, 'phase:claimed', now) == 1 then
  emit('vm.claimed', number, {dispatch = dispatch, phase = 'claimed', fence = tonumber(is.fence)})
end
return {'done', tonumber(is.fence), math.max(0, deadline - now), may_run, redis.call('HGETALL', item)}
