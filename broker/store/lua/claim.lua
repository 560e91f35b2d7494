#!lua flags=allow-oom
-- PURPOSE  Exchange a ticket for the item and its lease, once; the same claim key again gets the same answer.
-- USES     time event counts canary bulk
-- EACH     item
-- KEYS     items vms stream dispatched running deadlines events feed life account bell ready_bell bulk
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
--          run, and the item's revision, url, parameters and further inputs. That is what its spec says, or less when its launcher's
--          slot ends before; `run_ms` where an older broker's dispatch did not note it. replayed: the ticket came with
--          another claim key; Python then takes the item back. At its slot's end a launcher lets its vms stop in their
--          own time: the broker itself ends the lease not before that is over, and `grace_ms` later.
local vm = vms .. dispatch
local has = redis.call('HMGET', item, 'revision', 'url', 'params', 'may_run', 'inputs')
local revision = has[1]
local function answer(word, deadline, may_run)
  return {word, tonumber(is.fence), math.max(0, deadline - now), may_run, revision, has[2] or '', has[3] or '',
    has[5] or ''}
end
if is.dispatch == dispatch and is.state == 'running' then
  if is.claim_key ~= claim_key then
    if redis.call('HSETNX', vm, 'replayed', now) == 1 then
      emit('ticket.replayed', number, {dispatch = dispatch, fence = tonumber(is.fence)})
    end
    return {'replayed'}
  end
  if not is.extended then
    -- Claimed at an earlier broker, it has no `may_run`.
    return answer('repeated', redis.call('ZSCORE', deadlines, ref), tonumber(has[4]) or run_ms)
  end
end
if is.dispatch ~= dispatch or is.state ~= 'dispatched' or bulk_reaches('dispatched', number) then
  if redis.call('EXISTS', vm) == 1 and redis.call('HSETNX', vm, 'spent', now) == 1 then
    emit('ticket.spent', number, {dispatch = dispatch, fence = tonumber(redis.call('HGET', vm, 'fence'))})
  end
  return {'spent'}
end

local told = redis.call('HMGET', vm, 'slot_ends_ms', 'slot_over_ms', 'run_limit', 'machine_revision', 'phase:claimed')
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
count_items('dispatched', -1)
count_items('running', 1)
-- Its launcher may have said so before: the first one's time stays.
redis.call('HSET', vm, 'fact:guest_os', guest_os, 'fact:client', client, 'phase:claimed', told[5] or now)
prove(revision, tonumber(told[4]))
local fence = tonumber(is.fence)
emit('item.claimed', number, {state = 'running', dispatch = dispatch, fence = fence, guest_os = guest_os})
if not told[5] then emit('vm.claimed', number, {dispatch = dispatch, phase = 'claimed', fence = fence}) end
return answer('done', deadline, may_run)
