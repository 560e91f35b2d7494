#!lua flags=allow-oom
-- PURPOSE  End a failed attempt: the item is tried again later, or held.
-- USES     time event outbox ring counts queue ready item leave settle back
-- KEYS     items vms stream ready ready_of delayed dispatched running held due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of outbox owed owing outbox_bell
-- ARGV     user       text
--          job        text
--          number     text
--          dispatch   uuid
--          counters   text
--          counts     text
--          to         text
--          delay_ms   ms
--          cause      text
--          refunds    flag
--          code       text
--          sentence   text
--          exit_code  text
--          keep_ms    ms
--          rest       text...
-- RETURN   done changed
-- MOVES    running -> delayed, running -> held
-- EMITS    item.delayed item.held
-- COST     O(log running)
-- `counters` is ATTEMPTS:BOOTS:GIVEN_BACK as Python saw them. `rest`: names, values of facts.
if is.state ~= 'running' or not still_decided() then return {'changed'} end

for index = rest, #ARGV, 2 do redis.call('HSET', vms .. dispatch, 'fact:' .. ARGV[index], ARGV[index + 1]) end
go_back('fail')
return {'done'}
