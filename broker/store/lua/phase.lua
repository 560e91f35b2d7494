#!lua flags=allow-oom
-- PURPOSE  Record a phase that a launcher reports of its vm, once each.
-- USES     time event item closing heard
-- KEYS     items vms stream deadlines launchers launchers_of reports events feed life account bell ready_bell
-- ARGV     user        text
--          job         text
--          number      text
--          dispatch    uuid
--          launcher    text
--          phase       text
--          restarts    flag
--          bound_ms    ms
--          silence_ms  ms
--          rest        text...
-- RETURN   own closing cancelled over missing
-- MOVES    dispatched -> dispatched, running -> running
-- EMITS    vm.preparing vm.prepared vm.booting vm.started vm.claimed
-- COST     O(log deadlines)
-- Answers  own, or closing, cancelled or over. A phase that `restarts` begins a new bound: `bound_ms` from now;
--          between bounds a dispatched item's deadline is `silence_ms` after its launcher was last heard.
--          `rest`: names, values of facts.
local vm = vms .. dispatch
local told = redis.call('HMGET', vm, 'launcher', 'over', 'over_ms')
if told[1] ~= launcher then return {'missing'} end

note_heard(launcher)
local is_first = redis.call('HSETNX', vm, 'phase:' .. phase, now) == 1
if is_first then
  for index = rest, #ARGV, 2 do redis.call('HSET', vm, 'fact:' .. ARGV[index], ARGV[index + 1]) end
  emit('vm.' .. phase, number, {dispatch = dispatch, phase = phase,
    fence = tonumber(redis.call('HGET', vm, 'fence')), launcher = launcher})
end
if is.dispatch ~= dispatch then return {closing(told[2], told[3])} end
if is.state == 'dispatched' then
  local bound = tonumber(is.boot_until_ms)
  if not bound or (is_first and restarts == 1) then bound = now + bound_ms end
  redis.call('HSET', item, 'boot_until_ms', bound)
  redis.call('ZADD', deadlines, math.min(bound, now + silence_ms), ref)
end
return {'own'}
