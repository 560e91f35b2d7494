#!lua flags=allow-oom
-- PURPOSE  End a dispatch or lease whose deadline has passed, as a give back or as a failed attempt.
-- USES     time event outbox ring counts queue ready item leave settle back
-- KEYS     items vms stream ready ready_of delayed dispatched running held due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of launchers outbox owed owing outbox_bell
-- ARGV     user       text
--          job        text
--          number     text
--          dispatch   uuid
--          launcher   text
--          heard_ms   ms
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
-- RETURN   done changed
-- MOVES    dispatched -> ready, dispatched -> delayed, dispatched -> held, running -> ready, running -> delayed,
--          running -> held
-- EMITS    item.given_back item.delayed item.held
-- COST     O(log deadlines)
-- `heard_ms`: when the launcher had last been heard when Python decided; 0 is never.
local deadline = tonumber(redis.call('ZSCORE', deadlines, ref))
local heard = tonumber(redis.call('ZSCORE', launchers, launcher)) or 0
if not still_decided() or not deadline or deadline > now or heard ~= heard_ms then return {'changed'} end

go_back('expire')
return {'done'}
