#!lua
-- PURPOSE  Note that a user brought all bytes of an image: only then may their machines name it.
-- USES     time
-- KEYS     images grants ungranted unnamed
-- ARGV     user        text
--          digest      text
--          size_bytes  int
-- RETURN   done repeated
-- MOVES    none
-- EMITS    none
-- COST     O(log unnamed images)
-- Answers  done, or repeated when it was the user's already. Either way a machine has anew the time to name it.
local owned = user .. '/' .. digest
if redis.call('HSETNX', images, digest, size_bytes) == 0 then
  redis.call('ZADD', unnamed, 'XX', now, owned)
  return {'repeated'}
end
redis.call('HINCRBY', grants, digest, 1)
redis.call('SREM', ungranted, digest)
redis.call('ZADD', unnamed, now, owned)
return {'done'}
