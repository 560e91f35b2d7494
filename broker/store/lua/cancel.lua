#!lua flags=allow-oom
-- PURPOSE  Stop an item for good, at once; a vm that has it is told at its next extend.
-- USES     time event item leave settle
-- KEYS     items vms stream delayed dispatched running held cancelled due keep deadlines events feed life account bell
-- ARGV     user      text
--          job       text
--          number    text
--          code      text
--          sentence  text
--          keep_ms   ms
-- RETURN   done repeated settled missing
-- MOVES    delayed -> cancelled, ready -> cancelled, dispatched -> cancelled, running -> cancelled, held -> cancelled
-- EMITS    item.cancelled
-- COST     O(log items in the item's state)
-- Answers  done, or repeated when it was cancelled before, and 1 when that ended a vm's dispatch, else 0; settled when it
--          is done; or missing. Why the item had failed before is kept in its sentence.
if not is.state then return {'missing'} end
if is.state == 'done' then return {'settled'} end
if is.state == 'cancelled' then
  local over = is.last and redis.call('HGET', vms .. is.last, 'over')
  return {'repeated', over == 'cancel' and 1 or 0}
end

local before = redis.call('HGET', item, 'sentence')
if before then sentence = sentence .. '; before: ' .. before end

if is.dispatch then
  leave_dispatch('cancel', 'cancelled', code)
else
  if is.state == 'held' then
    redis.call('ZREM', held, number)
  elseif is.state == 'delayed' then
    redis.call('ZREM', delayed, number)
    redis.call('ZREM', due, ref)
  end
  redis.call('HINCRBY', stream, is.state, -1)
end
-- Whoever had it, or may still settle it late, shows an older fence from now on; an entry in the ready list is stale.
local fence = redis.call('HINCRBY', item, 'fence', 1)
redis.call('HINCRBY', item, 'gen', 1)
redis.call('HDEL', item, 'not_before_ms', 'exit_code')
redis.call('HSET', item, 'state', 'cancelled', 'code', code, 'sentence', sentence, 'settled_ms', now)
redis.call('ZADD', cancelled, now, number)
redis.call('HINCRBY', stream, 'cancelled', 1)
settle()
emit('item.cancelled', number, {state = 'cancelled', code = code, sentence = sentence, dispatch = is.dispatch,
  fence = fence, was = is.state})
return {'done', is.dispatch and 1 or 0}
