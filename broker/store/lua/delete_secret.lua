#!lua flags=allow-oom
-- PURPOSE  Remove a secret; what vms were given of it is kept sealed while they may show it, for masking alone.
-- USES     time masking
-- KEYS     secret secrets masks
-- ARGV     name  text
-- RETURN   done missing
-- MOVES    none
-- EMITS    none
-- COST     O(masks of the secret)
if redis.call('EXISTS', secret) == 0 then return {'missing'} end
keep_mask()
redis.call('DEL', secret)
redis.call('SREM', secrets, name)
return {'done'}
