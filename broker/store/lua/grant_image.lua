#!lua
-- PURPOSE  Note that a user brought all bytes of an image: only then may their machines name it.
-- USES     time
-- KEYS     images grants ungranted unnamed account
-- ARGV     user        text
--          digest      text
--          size_bytes  int
--          most_bytes  int
--          most        int
-- RETURN   done repeated full
-- MOVES    none
-- EMITS    none
-- COST     O(images of the user + log unnamed images)
-- Answers  done, or repeated when it was the user's already: either way a machine has anew the time to name it; or full
--          and the bound of the user's that it would break: `images` or `image_bytes`, and where it stands.
local owned = user .. '/' .. digest
if redis.call('HEXISTS', images, digest) == 1 then
  redis.call('ZADD', unnamed, 'XX', now, owned)
  return {'repeated'}
end
if redis.call('HLEN', images) >= most then return {'full', 'images', most} end
local bytes = size_bytes
for _, size in ipairs(redis.call('HVALS', images)) do bytes = bytes + size end
most_bytes = tonumber(redis.call('HGET', account, 'most:image_bytes')) or most_bytes
if bytes > most_bytes then return {'full', 'image_bytes', most_bytes} end
redis.call('HSET', images, digest, size_bytes)
redis.call('HINCRBY', grants, digest, 1)
redis.call('SREM', ungranted, digest)
redis.call('ZADD', unnamed, now, owned)
return {'done'}
