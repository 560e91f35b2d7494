-- Fair shares: a member's virtual time grows by what it was given; the smallest is served next.
-- Who joins starts at the ring's present, or later when it left the ring ahead of it. A paused stream is not in the ring.
-- A user of weight two grows half as fast, and so is given twice as much.
-- Needs: stream account fair ring user_ring, user job.
local known_weight
local function weight()
  known_weight = known_weight or tonumber(redis.call('HGET', account, 'weight')) or 1
  return known_weight
end

local function shift(members, member, own, by)
  if redis.call('ZSCORE', members, member) then
    redis.call('ZINCRBY', members, by, member)
  else
    redis.call('HINCRBYFLOAT', own, 'pass', by)
  end
end

-- Makes good what was charged at dispatches for what their vms then took: once for all that one script ends.
local correction = 0
local function correct_rings(by)
  correction = correction + by
end

local function write_correction()
  if correction == 0 then return end
  shift(user_ring, job, stream, correction)
  shift(ring, user, account, correction / weight())
  correction = 0
end
at_end[#at_end + 1] = write_correction

local function join(members, member, own, common)
  if redis.call('ZSCORE', members, member) then return end
  local pass = tonumber(redis.call('HGET', own, 'pass')) or 0
  local present = tonumber(redis.call('HGET', common, 'now')) or 0
  redis.call('ZADD', members, math.max(pass, present), member)
end

local function join_rings()
  write_correction()
  if redis.call('HEXISTS', stream, 'paused') == 1 then return end
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
  write_correction()
  leave(user_ring, job, stream)
  if redis.call('EXISTS', user_ring) == 0 then leave(ring, user, account) end
end

local function charge(members, member, common, cost, count)
  redis.call('HSET', common, 'now', (redis.call('ZSCORE', members, member) or 0) + cost * (count - 1))
  redis.call('ZINCRBY', members, cost * count, member)
end

local function charge_rings(cost, count)
  charge(user_ring, job, account, cost, count)
  charge(ring, user, fair, cost / weight(), count)
end

-- How many vms of that cost a member may be given until another one's turn comes; at least one.
local function turns_among(members, member, cost)
  local first = redis.call('ZRANGE', members, 0, 1, 'WITHSCORES')
  local other = first[2]
  if first[1] == member then other = first[4] end
  if not other or cost <= 0 then return math.huge end
  local own = redis.call('ZSCORE', members, member) or other
  return math.max(1, math.floor((other - own) / cost) + 1)
end

local function turns(cost)
  return math.min(turns_among(user_ring, job, cost), turns_among(ring, user, cost / weight()))
end
