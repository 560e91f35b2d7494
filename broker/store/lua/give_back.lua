#!lua flags=allow-oom
-- PURPOSE  Return an item without counting an attempt.
-- USES     time event outbox ring counts queue ready item leave settle back
-- KEYS     items vms stream ready ready_of delayed dispatched running held due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of outbox owed owing outbox_bell
-- ARGV     user       text
--          job        text
--          number     text
--          dispatch   uuid
--          act        text
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
-- MOVES    dispatched -> ready, dispatched -> delayed, dispatched -> held, running -> ready, running -> delayed,
--          running -> held
-- EMITS    item.given_back item.held
-- COST     O(log running)
-- `act` is what a repeated message of the lease is compared with: give_back when the guest asked, revoke when the
-- broker did. `rest`: names, values of facts.
if not still_decided() then return {'changed'} end

for index = rest, #ARGV, 2 do redis.call('HSET', vms .. dispatch, 'fact:' .. ARGV[index], ARGV[index + 1]) end
go_back(act)
return {'done'}
