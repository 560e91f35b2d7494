#!lua flags=allow-oom
-- PURPOSE  Take the grant of an image back that no machine of its user names.
-- USES     time
-- KEYS     machines machines_of images grants ungranted unnamed
-- ARGV     user     text
--          digest   text
--          keep_ms  ms
-- RETURN   done changed named missing
-- MOVES    none
-- EMITS    none
-- COST     O(machines of the user and their images)
-- Answers  done; changed when it was named less than `keep_ms` ago; named and the machine that names it; or missing when
--          it is not granted to the user.
local owned = user .. '/' .. digest
if redis.call('HEXISTS', images, digest) == 0 then
  redis.call('ZREM', unnamed, owned)
  return {'missing'}
end
for _, name in ipairs(redis.call('SMEMBERS', machines)) do
  local listed = redis.call('HGET', machines_of .. name, 'images')
  -- A machine without the list is an older broker's: what it needs is not known.
  if not listed or string.find(listed, digest, 1, true) then
    redis.call('ZREM', unnamed, owned)
    return {'named', name}
  end
end
if now - (tonumber(redis.call('ZSCORE', unnamed, owned)) or 0) < keep_ms then return {'changed'} end

redis.call('HDEL', images, digest)
redis.call('ZREM', unnamed, owned)
if redis.call('HINCRBY', grants, digest, -1) <= 0 then
  redis.call('HDEL', grants, digest)
  redis.call('SADD', ungranted, digest)
end
return {'done'}
