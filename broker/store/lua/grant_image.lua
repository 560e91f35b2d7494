#!lua
-- PURPOSE  Note that a user brought all bytes of an image: only then may their machines name it.
-- KEYS     images grants ungranted
-- ARGV     digest      text
--          size_bytes  int
-- RETURN   done repeated
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done, or repeated when it was the user's already.
if redis.call('HSETNX', images, digest, size_bytes) == 0 then return {'repeated'} end
redis.call('HINCRBY', grants, digest, 1)
redis.call('SREM', ungranted, digest)
return {'done'}
