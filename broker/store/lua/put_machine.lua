#!lua
-- PURPOSE  Keep a machine's definition as its next revision; the same definition again changes nothing.
-- USES     time
-- KEYS     machine machines removed_machines images unnamed account
-- ARGV     user        text
--          name        text
--          definition  json
--          most        int
--          revisions   int
--          rest        text...
-- RETURN   done repeated missing full
-- MOVES    none
-- EMITS    none
-- COST     O(its images * log unnamed images)
-- Answers  done or repeated, the revision that holds now; missing and the image of `rest` that is not the user's;
--          full and `machines`, or `revisions`, of which there are as many as may be.
--          `images` of the machine lists those of the latest revision. Those that only the one before had count as
--          unnamed from now on: a vm of it may still need them for a while. One whose name was forgotten begins after
--          the last number that was forgotten: definitions are kept in memory by their number.
local is = redis.call('HMGET', machine, 'latest', 'last', 'images')
if is[1] and redis.call('HGET', machine, is[1]) == definition then return {'repeated', tonumber(is[1])} end
if not is[1] and redis.call('SCARD', machines) >= most then return {'full', 'machines'} end
if redis.call('HLEN', machine) >= revisions + 3 then return {'full', 'revisions'} end
for index = rest, #ARGV do
  if redis.call('HEXISTS', images, ARGV[index]) == 0 then return {'missing', ARGV[index]} end
end

local names = {}
for index = rest, #ARGV do
  names[ARGV[index]] = true
  redis.call('ZREM', unnamed, user .. '/' .. ARGV[index])
end
for digest in string.gmatch(is[3] or '', '%S+') do
  if not names[digest] then redis.call('ZADD', unnamed, now, user .. '/' .. digest) end
end
local revision = string.format('%.0f', (tonumber(is[1] or is[2] or
  redis.call('HGET', account, 'machine_floor')) or 0) + 1)
redis.call('HSET', machine, 'latest', revision, revision, definition, 'images', table.concat(ARGV, ' ', rest))
redis.call('SADD', machines, name)
redis.call('ZREM', removed_machines, name)
return {'done', tonumber(revision)}
