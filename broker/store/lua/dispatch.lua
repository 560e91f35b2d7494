#!lua
-- PURPOSE  Give a launcher the next ready items of a lane, one for each dispatch it brings, until another's turn comes.
-- USES     time event ring counts queue stale canary bulk holder first
-- KEYS     items vms stream ready ready_of dispatched deadlines events feed life bell ready_bell ring user_ring fair
--          account bulk holds_of dispatch_key definitions
-- ARGV     user               text
--          job                text
--          lane               text
--          is_next            flag
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
--          trusted            text
--          holder             text
--          most_held          int
--          kept_for           ms
--          first_deadline_ms  ms
--          time_left_ms       text
--          drain_ms           ms
--          given              text
--          rest               text...
-- RETURN   done repeated changed canary waits again full empty
-- MOVES    ready -> dispatched
-- EMITS    item.dispatched
-- COST     O(log dispatched + log lanes) an item; stale entries are dropped, some two hundred at most
-- Answers  done and of each item its number, its fence, url, parameters and further inputs; repeated and the dispatches that the key
--          was given; changed when the machine has another revision by now, or, with `is_next`, when another lane or
--          stream comes first; canary when the revision's items wait for one that is out to claim; waits when a bulk
--          act is about to reach them; again when only stale entries were met so far; full when its token holds `most_held`; empty when the lane has no more. `given`: what this
--          request was given before, a dispatch a word. `rest`: dispatches. `cost`: of one vm. `time_left_ms`: until the
--          launcher's slot ends; '' when no end is known. `drain_ms`: how long its vms may take to stop then.
--          `trusted`: the label for which the launcher may have the stream's secrets; '' for a stream without any.
local known = redis.call('GET', dispatch_key)
if known and known ~= given then return {'repeated', known} end
if tonumber(redis.call('HGET', definitions, 'latest') or 0) ~= machine_revision then return {'changed'} end
if is_next == 1 and not comes_next() then return {'changed'} end

local most = math.min(#ARGV - rest + 1, turns(cost))
local canaries
if not is_proven(revision, machine_revision) then
  canaries = canaries_out(revision, machine_revision)
  most = math.min(most, CANARIES - #canaries)
  if most <= 0 then return {'canary'} end
end

if most <= 0 then return {'empty'} end
most = most_by_token(most)
if most <= 0 then return {'full'} end
local taken, passed, is_waiting, entries = {}, 0, false, {}
repeat
  entries = redis.call('LRANGE', ready_of .. lane, passed, passed + most - #taken - 1)
  for _, entry in ipairs(entries) do
    local number, generation = number_and_generation(entry)
    local is = redis.call('HMGET', items .. number, 'state', 'gen', 'fence', 'boots', 'last', 'code', 'exit_code',
      'not_before_ms', 'url', 'params', 'inputs')
    if not is_stale_as(generation, is[1], is[2]) then
      is_waiting = bulk_reaches('ready', number)
      if is_waiting then break end
      taken[#taken + 1] = {number, is}
    end
    passed = passed + 1
  end
until #taken == most or is_waiting or #entries == 0 or passed >= most + STALE_ENTRIES
if passed > 0 or #entries == 0 then dequeue(lane, passed) end
if #taken > 0 then charge_rings(cost, #taken) end
if redis.call('EXISTS', ready) == 0 then leave_rings() end
if #taken == 0 then
  if is_waiting then return {'waits'} end
  return {redis.call('EXISTS', ready_of .. lane) == 1 and 'again' or 'empty'}
end

local out, dispatched_at, deadlines_at = {}, {}, {}
local deadline = now + first_deadline_ms
for index, each in ipairs(taken) do
  local number, is = each[1], each[2]
  local dispatch = ARGV[rest + index - 1]
  local item, vm = items .. number, vms .. dispatch
  local ref = user .. '/' .. job .. '/' .. number
  local fence, boots = (tonumber(is[3]) or 0) + 1, (tonumber(is[4]) or 0) + 1
  if is[6] or is[7] or is[8] then redis.call('HDEL', item, 'code', 'sentence', 'exit_code', 'not_before_ms') end
  redis.call('HSET', item, 'state', 'dispatched', 'dispatch', dispatch, 'last', dispatch, 'dispatched_ms', now,
    'fence', fence, 'boots', boots)
  redis.call('HSET', vm, 'item', ref, 'fence', fence, 'launcher', launcher, 'node', node, 'accelerator', accelerator,
    'vcpus', vcpus, 'memory_mib', memory_mib, 'machine', machine, 'machine_revision', machine_revision,
    'boot_ms', boot_ms, 'run_limit', run_ms, 'kept_for', kept_for, 'cost', cost, 'dispatched_ms', now)
  if trusted ~= '' then redis.call('HSET', vm, 'trusted', trusted) end
  hold_by_token(vm, dispatch)
  -- From the last vm back to the first: who removes the item finds them all.
  if is[5] then redis.call('HSET', vm, 'before', is[5]) end
  if time_left_ms ~= '' then
    local slot_ends_ms = now + tonumber(time_left_ms)
    redis.call('HSET', vm, 'slot_ends_ms', slot_ends_ms, 'slot_over_ms', slot_ends_ms + drain_ms)
  end
  dispatched_at[2 * index - 1], dispatched_at[2 * index] = now, number
  deadlines_at[2 * index - 1], deadlines_at[2 * index] = deadline, ref
  given = given == '' and dispatch or given .. ' ' .. dispatch
  if canaries then canaries[#canaries + 1] = dispatch end
  emit('item.dispatched', number, {state = 'dispatched', dispatch = dispatch, fence = fence, boots = boots,
    launcher = launcher, node = node, accelerator = accelerator, vcpus = vcpus, memory_mib = memory_mib,
    machine = machine, machine_revision = machine_revision})
  out[index] = {number, fence, is[9] or '', is[10] or '', is[11] or ''}
end
redis.call('ZADD', dispatched, unpack(dispatched_at))
redis.call('ZADD', deadlines, unpack(deadlines_at))
count_items('ready', -#taken)
count_items('dispatched', #taken)
if canaries then
  redis.call('HSET', stream, 'canaries:' .. revision, machine_revision .. ' ' .. table.concat(canaries, ' '))
end
redis.call('SET', dispatch_key, given, 'PX', DISPATCH_KEY_MS)
return {'done', unpack(out)}
