#!lua
-- PURPOSE  Note that an image's bytes are about to be kept: until it is granted, they are nobody's.
-- KEYS     grants ungranted
-- ARGV     digest  text
-- RETURN   done repeated
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done, or repeated when somebody is granted it already.
if redis.call('HEXISTS', grants, digest) == 1 then return {'repeated'} end
redis.call('SADD', ungranted, digest)
return {'done'}
