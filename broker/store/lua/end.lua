#!lua flags=allow-oom
-- PURPOSE  Record a vm's verdict, the first one, and do to an item that is still its own what the verdict means.
-- USES     time event outbox ring counts queue ready item leave settle back canary heard pausing faulty
-- KEYS     items vms stream ready ready_of delayed dispatched running held due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of launchers launchers_of reports outbox owed owing outbox_bell
-- ARGV     user         text
--          job          text
--          number       text
--          dispatch     uuid
--          launcher     text
--          verdict      text
--          said         text
--          has_console  flag
--          state        text
--          over         text
--          silence_ms   ms
--          counters     text
--          counts       text
--          to           text
--          delay_ms     ms
--          cause        text
--          refunds      flag
--          code         text
--          sentence     text
--          exit_code    text
--          keep_ms      ms
--          is_machines  flag
--          rest         text...
-- RETURN   done repeated changed missing
-- MOVES    dispatched -> ready, dispatched -> delayed, dispatched -> held, running -> ready, running -> delayed,
--          running -> held
-- EMITS    vm.ended item.given_back item.delayed item.held stream.paused
-- COST     O(log running)
-- Answers  done or repeated, the verdict that stands, the item's state, and 1 when a vm of its spec's and its
--          machine's revision has claimed, else 0. `state` is the item's when Python decided
--          over its own item, '' when it is not; `over` the act by which it had left its vm, '' for none; `to`
--          is '' when the item stays. `said`: the launcher's sentence. `is_machines`: the verdict says that the machine
--          is at fault: on several nodes that pauses the stream.
local vm = vms .. dispatch
local told = redis.call('HMGET', vm, 'launcher', 'verdict', 'fence', 'machine_revision', 'over', 'machine', 'node')
if told[1] ~= launcher then return {'missing'} end
local has_claimed = is_proven(redis.call('HGET', item, 'revision'), tonumber(told[4])) and 1 or 0
if told[2] then return {'repeated', told[2], is.state, has_claimed} end
local is_own = is.dispatch == dispatch
if is_own ~= (state ~= '') or (told[5] or '') ~= over then return {'changed'} end
if is_own and (is.state ~= state or not still_decided()) then return {'changed'} end

note_heard(launcher)
redis.call('HSETNX', vm, 'phase:ended', now)
redis.call('HSET', vm, 'verdict', verdict, 'sentence', said, 'has_console', has_console)
for index = rest, #ARGV, 2 do redis.call('HSET', vm, 'fact:' .. ARGV[index], ARGV[index + 1]) end
emit('vm.ended', number, {dispatch = dispatch, phase = 'ended', fence = tonumber(told[3]), launcher = launcher,
  verdict = verdict, sentence = said})
if is_machines == 1 then note_machine_fault(told[6], tonumber(told[4]), told[7], verdict, said) end
if is_own and to ~= '' then
  go_back('end')
  return {'done', verdict, to, has_claimed}
end
return {'done', verdict, is.state, has_claimed}
