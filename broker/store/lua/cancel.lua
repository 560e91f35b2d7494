#!lua flags=allow-oom
-- PURPOSE  Stop an item for good, at once; a vm that has it is told at its next extend.
-- USES     time event outbox ring counts item leave settle cancelling
-- KEYS     items vms stream delayed dispatched running held cancelled due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of outbox owed owing outbox_bell
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
--          is done; or missing.
if not is.state then return {'missing'} end
if is.state == 'done' then return {'settled'} end
if is.state == 'cancelled' then
  local over = is.last and redis.call('HGET', vms .. is.last, 'over')
  return {'repeated', over == 'cancel' and 1 or 0}
end

local fence, said = cancel_it()
emit('item.cancelled', number, {state = 'cancelled', code = code, sentence = said, dispatch = is.dispatch,
  fence = fence, was = is.state})
return {'done', is.dispatch and 1 or 0}
