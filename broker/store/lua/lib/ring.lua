-- Fair shares: a member's virtual time grows by what it was given; the smallest is served next.
-- Who joins starts at the ring's present, or later when it left the ring ahead of it.
-- Needs: stream account fair ring user_ring, user job.
local function join(members, member, own, common)
  if redis.call('ZSCORE', members, member) then return end
  local pass = tonumber(redis.call('HGET', own, 'pass')) or 0
  local present = tonumber(redis.call('HGET', common, 'now')) or 0
  redis.call('ZADD', members, math.max(pass, present), member)
end

local function join_rings()
  join(user_ring, job, stream, account)
  join(ring, user, account, fair)
end

local function leave(members, member, own)
  local pass = redis.call('ZSCORE', members, member)
  if not pass then return end
  redis.call('HSET', own, 'pass', pass)
  redis.call('ZREM', members, member)
end

local function leave_rings()
  leave(user_ring, job, stream)
  if redis.call('EXISTS', user_ring) == 0 then leave(ring, user, account) end
end

local function charge(members, member, common, cost)
  redis.call('HSET', common, 'now', redis.call('ZSCORE', members, member) or 0)
  redis.call('ZINCRBY', members, cost, member)
end

local function charge_rings(cost)
  charge(user_ring, job, account, cost)
  charge(ring, user, fair, cost)
end
