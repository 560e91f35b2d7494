#!lua
-- PURPOSE  Give a launcher the next ready items of a lane, one for each dispatch it brings, until another's turn comes.
-- USES     time event ring queue stale canary bulk
-- KEYS     items vms stream ready ready_of dispatched deadlines events feed life bell ring user_ring fair account
--          bulk dispatch_key
-- ARGV     user               text
--          job                text
--          lane               text
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
--          run_ms             ms
--          kept_for           ms
--          first_deadline_ms  ms
--          time_left_ms       text
--          drain_ms           ms
--          given              text
--          rest               text...
-- RETURN   done repeated canary waits again empty
-- MOVES    ready -> dispatched
-- EMITS    item.dispatched
-- COST     O(log dispatched + log lanes) an item; at most 200 stale entries are dropped
-- Answers  done and of each item its number, its fence and its record; repeated and the dispatches that the key was
--          given; canary when the revision's items wait for one that is out to claim; waits when a bulk act is about to
--          reach them; again when only stale entries were met so far; empty when the lane has no more. `given`: what this
--          request was given before, a dispatch a word. `rest`: dispatches. `cost`: of one vm. `time_left_ms`: until the
--          launcher's slot ends; '' when no end is known. `drain_ms`: how long its vms may take to stop then.
local known = redis.call('GET', dispatch_key)
if known and known ~= given then return {'repeated', known} end

local most = math.min(#ARGV - rest + 1, turns(cost))
local canaries
if not is_proven(revision, machine_revision) then
  canaries = canaries_out(revision, machine_revision)
  most = math.min(most, CANARIES - #canaries)
  if most <= 0 then return {'canary'} end
end

local entries = redis.call('LRANGE', ready_of .. lane, 0, 199 + most)
local numbers, passed, is_waiting = {}, 0, false
for _, entry in ipairs(entries) do
  if #numbers == most then break end
  if not is_stale(entry) then
    local number = string.match(entry, '^%d+')
    is_waiting = bulk_reaches('ready', number)
    if is_waiting then break end
    numbers[#numbers + 1] = number
  end
  passed = passed + 1
end
if passed > 0 or #entries == 0 then dequeue(lane, passed) end
if #numbers > 0 then charge_rings(cost, #numbers) end
if redis.call('EXISTS', ready) == 0 then leave_rings() end
if #numbers == 0 then
  if is_waiting then return {'waits'} end
  return {redis.call('EXISTS', ready_of .. lane) == 1 and 'again' or 'empty'}
end

local out = {}
for index, number in ipairs(numbers) do
  local dispatch = ARGV[rest + index - 1]
  local item, vm = items .. number, vms .. dispatch
  local ref = user .. '/' .. job .. '/' .. number
  -- From the last vm back to the first: who removes the item finds them all.
  local before = redis.call('HGET', item, 'last')
  if before then redis.call('HSET', vm, 'before', before) end
  local fence = redis.call('HINCRBY', item, 'fence', 1)
  local boots = redis.call('HINCRBY', item, 'boots', 1)
  redis.call('HDEL', item, 'code', 'sentence', 'exit_code', 'not_before_ms')
  redis.call('HSET', item, 'state', 'dispatched', 'dispatch', dispatch, 'last', dispatch, 'dispatched_ms', now)
  redis.call('HSET', vm, 'item', ref, 'fence', fence, 'launcher', launcher, 'node', node, 'accelerator', accelerator,
    'vcpus', vcpus, 'memory_mib', memory_mib, 'machine', machine, 'machine_revision', machine_revision,
    'boot_ms', boot_ms, 'run_limit', run_ms, 'kept_for', kept_for, 'cost', cost, 'dispatched_ms', now)
  if time_left_ms ~= '' then
    local slot_ends_ms = now + tonumber(time_left_ms)
    redis.call('HSET', vm, 'slot_ends_ms', slot_ends_ms, 'slot_over_ms', slot_ends_ms + drain_ms)
  end
  redis.call('ZADD', dispatched, now, number)
  redis.call('ZADD', deadlines, now + first_deadline_ms, ref)
  given = given == '' and dispatch or given .. ' ' .. dispatch
  if canaries then canaries[#canaries + 1] = dispatch end
  emit('item.dispatched', number, {state = 'dispatched', dispatch = dispatch, fence = fence, boots = boots,
    launcher = launcher, node = node, accelerator = accelerator, vcpus = vcpus, memory_mib = memory_mib,
    machine = machine, machine_revision = machine_revision})
  out[#out + 1] = {number, fence, redis.call('HGETALL', item)}
end
redis.call('HINCRBY', stream, 'ready', -#numbers)
redis.call('HINCRBY', stream, 'dispatched', #numbers)
if canaries then
  redis.call('HSET', stream, 'canaries:' .. revision, machine_revision .. ' ' .. table.concat(canaries, ' '))
end
redis.call('SET', dispatch_key, given, 'PX', DISPATCH_KEY_MS)
return {'done', unpack(out)}
