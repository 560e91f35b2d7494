#!lua
-- PURPOSE  Tell a server of an event once more, from the first attempt on.
-- USES     time
-- KEYS     owing owed out delivered dead record outbox_bell
-- ARGV     user   text
--          entry  text
-- RETURN   done missing
-- MOVES    none
-- EMITS    none
-- COST     O(log owed)
-- Answers  missing when it is kept no more. One that waits is due now, but for one that somebody has to tell.
local is_owed = redis.call('ZSCORE', owed, entry)
if not is_owed and not redis.call('ZSCORE', delivered, entry) and not redis.call('ZSCORE', dead, entry) then
  return {'missing'}
end
redis.call('ZREM', delivered, entry)
redis.call('ZREM', dead, entry)
if not is_owed or not redis.call('ZSCORE', out, entry) then
  redis.call('HSET', record, 'attempts', 0)
  redis.call('ZADD', owed, now, entry)
  redis.call('ZADD', owing, 'LT', now, user)
  redis.call('PUBLISH', outbox_bell, '')
end
return {'done'}
