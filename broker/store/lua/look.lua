#!lua flags=no-writes
-- PURPOSE  Look at the streams with ready items, in the order of fair shares: users by turns, then each user's streams.
-- KEYS     ring user_rings streams_of readies
-- ARGV     skip   int
--          most   int
--          lanes  int
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(streams looked at and their lanes)
-- Answers  done and of each stream the user, the job, the mean of what its vms took in milliseconds or '', and its first
--          lanes. `skip`: so many streams are passed over. When there are fewer than `most` there are no more.
local found, passed = {}, 0
for _, user in ipairs(redis.call('ZRANGE', ring, 0, skip + most - 1)) do
  for _, job in ipairs(redis.call('ZRANGE', user_rings .. user, 0, skip + most - 1 - passed - #found)) do
    if passed < skip then
      passed = passed + 1
    else
      local ref = user .. '/' .. job
      found[#found + 1] = {user, job, redis.call('HGET', streams_of .. ref, 'mean_ms') or '',
        unpack(redis.call('ZRANGE', readies .. ref, 0, lanes - 1))}
      if #found == most then return {'done', unpack(found)} end
    end
  end
end
return {'done', unpack(found)}
