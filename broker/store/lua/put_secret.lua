#!lua
-- PURPOSE  Keep a sealed secret, a new one or in place of the one of that name.
-- USES     time masking
-- KEYS     secret secrets masks account
-- ARGV     name     text
--          kind     text
--          size     int
--          sealed   text
--          version  int
--          most     int
-- RETURN   done changed full
-- MOVES    none
-- EMITS    none
-- COST     O(masks of the secret)
-- Answers  done, changed when `version`, to which the value is sealed, is not the next one of the user's any more, or
--          full and their bound. Versions are never given twice, whatever was removed in between.
if version ~= (tonumber(redis.call('HGET', account, 'secret_version')) or 0) + 1 then return {'changed'} end
local is_new = redis.call('EXISTS', secret) == 0
if is_new and redis.call('SCARD', secrets) >= most then return {'full', most} end

keep_mask()
redis.call('HSET', account, 'secret_version', version)
redis.call('HSET', secret, 'kind', kind, 'size', size, 'sealed', sealed, 'version', version, 'updated_ms', now)
redis.call('HSETNX', secret, 'created_ms', now)
redis.call('HDEL', secret, 'shown_until_ms')
redis.call('SADD', secrets, name)
return {'done'}
