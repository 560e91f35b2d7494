#!lua
-- PURPOSE  Give the stream's next ready item of a spec revision to a launcher.
-- USES     time event ring queue canary
-- KEYS     items vms stream ready ready_of dispatched deadlines events feed life bell ring user_ring fair account
--          dispatch_key
-- ARGV     user               text
--          job                text
--          dispatch           uuid
--          revision           int
--          cost               int
--          launcher           text
--          node               text
--          accelerator        text
--          vcpus              int
--          memory_mib         int
--          machine            text
--          machine_revision   int
--          boot_ms            ms
--          first_deadline_ms  ms
--          time_left_ms       text
--          drain_ms           ms
-- RETURN   done repeated canary again empty
-- MOVES    ready -> dispatched
-- EMITS    item.dispatched
-- COST     O(log dispatched + log revisions with ready items); at most 200 stale entries are dropped
-- Answers  done, the number and the fence; repeated and the dispatch that the key was given; canary when the revision's
--          items wait for one that is out to claim; again when only stale entries were met so far; empty when the
--          revision has no more ready items. `time_left_ms`: until the launcher's slot ends; '' when no end is known.
--          `drain_ms`: how long its vms may take to stop then.
local known = redis.call('GET', dispatch_key)
if known then return {'repeated', known} end

local number, is
local stale = 0
while stale < 200 and not number do
  local entry = redis.call('LINDEX', ready_of .. revision, stale)
  if not entry then break end
  local listed, gen = string.match(entry, '^(%d+):(%d+):')
  is = redis.call('HMGET', items .. listed, 'state', 'gen', 'last')
  if is[1] == 'ready' and (is[2] or '0') == gen then number = listed else stale = stale + 1 end
end
if not number then
  dequeue(revision, stale)
  if redis.call('EXISTS', ready_of .. revision) == 1 then return {'again'} end
  if redis.call('EXISTS', ready) == 0 then leave_rings() end
  return {'empty'}
end
local canaries
if not is_proven(revision, machine_revision) then
  canaries = canaries_out(revision, machine_revision)
  if #canaries >= CANARIES then return {'canary'} end
  canaries[#canaries + 1] = dispatch
end

local item, vm = items .. number, vms .. dispatch
local ref = user .. '/' .. job .. '/' .. number
dequeue(revision, stale + 1)
charge_rings(cost)
if redis.call('EXISTS', ready) == 0 then leave_rings() end
local fence = redis.call('HINCRBY', item, 'fence', 1)
local boots = redis.call('HINCRBY', item, 'boots', 1)
redis.call('HDEL', item, 'code', 'sentence', 'exit_code', 'not_before_ms')
redis.call('HSET', item, 'state', 'dispatched', 'dispatch', dispatch, 'last', dispatch, 'dispatched_ms', now)
redis.call('HSET', vm, 'item', ref, 'fence', fence, 'launcher', launcher, 'node', node, 'accelerator', accelerator,
  'vcpus', vcpus, 'memory_mib', memory_mib, 'machine', machine, 'machine_revision', machine_revision,
  'boot_ms', boot_ms, 'dispatched_ms', now)
-- From the last vm back to the first: who removes the item finds them all.
if is[3] then redis.call('HSET', vm, 'before', is[3]) end
if time_left_ms ~= '' then
  local slot_ends_ms = now + tonumber(time_left_ms)
  redis.call('HSET', vm, 'slot_ends_ms', slot_ends_ms, 'slot_over_ms', slot_ends_ms + drain_ms)
end
redis.call('ZADD', dispatched, now, number)
redis.call('ZADD', deadlines, now + first_deadline_ms, ref)
redis.call('HINCRBY', stream, 'ready', -1)
redis.call('HINCRBY', stream, 'dispatched', 1)
if canaries then
  redis.call('HSET', stream, 'canaries:' .. revision, machine_revision .. ' ' .. table.concat(canaries, ' '))
end
redis.call('SET', dispatch_key, dispatch, 'PX', DISPATCH_KEY_MS)
emit('item.dispatched', number, {state = 'dispatched', dispatch = dispatch, fence = fence, boots = boots,
  launcher = launcher, node = node, accelerator = accelerator, vcpus = vcpus, memory_mib = memory_mib,
  machine = machine, machine_revision = machine_revision})
return {'done', number, fence}
