#!lua flags=allow-oom
-- PURPOSE  Count an attempt to tell a server of an event that it is still owed.
-- USES     time
-- KEYS     owed out record callback_ids
-- ARGV     entry       text
--          id          text
--          visible_ms  ms
-- RETURN   done missing
-- MOVES    none
-- EMITS    none
-- COST     O(log owed)
-- Answers  done and how many attempts were begun, this one too; or missing, when it is owed no more.
if not redis.call('ZSCORE', owed, entry) then return {'missing'} end
-- Whoever finds it due meanwhile would tell it beside this attempt.
redis.call('ZADD', owed, 'GT', now + visible_ms, entry)
redis.call('ZADD', out, 'GT', now + visible_ms, entry)
redis.call('HSET', callback_ids, id, entry)
redis.call('HSET', record, 'id', id, 'last_ms', now)
return {'done', redis.call('HINCRBY', record, 'attempts', 1)}
