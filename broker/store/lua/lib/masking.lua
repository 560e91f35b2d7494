-- Keeps the sealed value of a secret that a vm was given and may still show, when it is replaced or removed.
-- Needs: secret masks, time.
local function keep_mask()
  local was = redis.call('HMGET', secret, 'version', 'sealed', 'shown_until_ms')
  local until_ms = tonumber(was[3] or 0)
  if until_ms <= now then return end
  local oldest, count = nil, 0
  for _, known in ipairs(redis.call('HKEYS', masks)) do
    count = count + 1
    if not oldest or tonumber(known) < tonumber(oldest) then oldest = known end
  end
  if count >= MASKS then redis.call('HDEL', masks, oldest) end
  redis.call('HSET', masks, was[1], was[2])
  redis.call('PEXPIREAT', masks, math.max(until_ms, redis.call('PEXPIRETIME', masks)))
end
