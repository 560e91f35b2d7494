#!lua flags=allow-oom
-- PURPOSE  Remove a machine that no stream uses, and its user's grants of images that no other of their machines names.
-- USES     time
-- KEYS     machine machines machines_of removed_machines images readers machine_streams grants ungranted unnamed account
-- ARGV     user  text
--          name  text
--          most  int
--          rest  text...
-- RETURN   done changed missing
-- MOVES    none
-- EMITS    none
-- COST     O(streams that name it + readers + machines of the user and their images)
-- Answers  done, changed when its streams and readers are not those of `rest`, or missing. Definitions stay for what
--          was dispatched with them, those of the `most` machines that were removed last; their numbers go on when a
--          machine of the name is added again. An image that another machine named until lately keeps its grant for what
--          is left of its time.
local latest = redis.call('HGET', machine, 'latest')
if not latest then return {'missing'} end
local seen = {}
for index = rest, #ARGV do seen[ARGV[index]] = true end
local uses = redis.call('SMEMBERS', readers)
local named_by = redis.call('HGETALL', machine_streams)
for index = 1, #named_by, 2 do uses[#uses + 1] = named_by[index] .. '=' .. named_by[index + 1] end
if #uses ~= #ARGV - rest + 1 then return {'changed'} end
for _, use in ipairs(uses) do
  if not seen[use] then return {'changed'} end
end

-- A machine without the list is an older broker's: what it needs is not known, so nothing is given up.
local needed, is_known = {}, true
for _, other in ipairs(redis.call('SMEMBERS', machines)) do
  if other ~= name then
    local listed = redis.call('HGET', machines_of .. other, 'images')
    if not listed then is_known = false end
    for digest in string.gmatch(listed or '', '%S+') do needed[digest] = true end
  end
end
for digest in string.gmatch(is_known and redis.call('HGET', machine, 'images') or '', '%S+') do
  if not needed[digest] and not redis.call('ZSCORE', unnamed, user .. '/' .. digest)
    and redis.call('HDEL', images, digest) == 1 and redis.call('HINCRBY', grants, digest, -1) <= 0 then
    redis.call('HDEL', grants, digest)
    redis.call('SADD', ungranted, digest)
  end
end
redis.call('HDEL', machine, 'latest', 'images')
redis.call('HSET', machine, 'last', latest)
redis.call('SREM', machines, name)
redis.call('DEL', readers, machine_streams)
redis.call('ZADD', removed_machines, now, name)
if redis.call('ZCARD', removed_machines) > most then
  local forgotten = machines_of .. redis.call('ZPOPMIN', removed_machines)[1]
  local last = tonumber(redis.call('HGET', forgotten, 'last')) or 0
  if last > (tonumber(redis.call('HGET', account, 'machine_floor')) or 0) then
    redis.call('HSET', account, 'machine_floor', last)
  end
  redis.call('UNLINK', forgotten)
end
return {'done'}
