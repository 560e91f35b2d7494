-- Whether a lane comes next of all. Needs: user job lane. Keys: ring user_ring ready.
local function comes_next()
  local function is_first(members, member) return redis.call('ZRANGE', members, 0, 0)[1] == member end
  return is_first(ring, user) and is_first(user_ring, job) and is_first(ready, lane)
end
