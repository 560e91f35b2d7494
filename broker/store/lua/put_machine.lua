#!lua
-- PURPOSE  Keep a machine's definition as its next revision; the same definition again changes nothing.
-- KEYS     machine machines images
-- ARGV     name        text
--          definition  json
--          rest        text...
-- RETURN   done repeated missing
-- MOVES    none
-- EMITS    none
-- COST     O(images of all revisions)
-- Answers  done or repeated, the revision that holds now; missing and the image of `rest` that is not the user's.
--          `images` of the machine lists those of all its revisions: a vm of an earlier one may still need its own.
local is = redis.call('HMGET', machine, 'latest', 'last', 'images')
if is[1] and redis.call('HGET', machine, is[1]) == definition then return {'repeated', tonumber(is[1])} end
for index = rest, #ARGV do
  if redis.call('HEXISTS', images, ARGV[index]) == 0 then return {'missing', ARGV[index]} end
end

local named = is[3] or ''
for index = rest, #ARGV do
  if not string.find(named, ARGV[index], 1, true) then named = named .. ' ' .. ARGV[index] end
end
local revision = string.format('%.0f', (tonumber(is[1] or is[2]) or 0) + 1)
redis.call('HSET', machine, 'latest', revision, revision, definition, 'images', named)
redis.call('SADD', machines, name)
return {'done', tonumber(revision)}
