#!lua flags=allow-oom
-- PURPOSE  Do the next part of a purge's second half: remove items, all of them stopped or done by now.
-- USES     time counts forgetting
-- KEYS     items vms stream names done held cancelled keep account bulk
-- ARGV     user  text
--          job   text
--          id    text
--          rest  text...
-- RETURN   done changed
-- MOVES    none
-- EMITS    none
-- COST     O(items and their vms)
-- `rest` are numbers, of which some may be gone before; the last of them is noted.
local known = redis.call('HMGET', bulk, 'id', 'act', 'next', 'upto')
if known[1] ~= id or known[2] ~= 'purge' or tonumber(known[3]) <= tonumber(known[4]) then return {'changed'} end

for index = rest, #ARGV do
  local number = ARGV[index]
  local is = redis.call('HMGET', items .. number, 'state', 'last')
  if is[1] then forget_item(number, is[1], is[2]) end
end
redis.call('HSET', bulk, 'removed', ARGV[#ARGV], 'stepped_ms', now)
return {'done'}
