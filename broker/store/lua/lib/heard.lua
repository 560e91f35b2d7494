-- Notes that launchers were heard. Each token's launchers have a bound of their own: no token can use up another's.
-- When it is reached, the one of them that was not heard for longest makes room, if it is gone; else answers false.
-- Needs: launchers launchers_of reports; time; silence_ms.
local function own_of(launcher)
  return launchers_of .. (string.match(launcher, '^(.*)/') or '')
end

-- `dated`: times and launchers in turn, all of one token and known to it; `one` of them.
local function note_all_heard(one, dated)
  local own = own_of(one)
  redis.call('ZADD', own, unpack(dated))
  redis.call('PEXPIRE', own, LAUNCHER_KEEP_MS)
  redis.call('ZADD', launchers, unpack(dated))
  redis.call('ZREMRANGEBYSCORE', launchers, '-inf', now - LAUNCHER_KEEP_MS)
end

local function note_heard(launcher)
  local own = own_of(launcher)
  redis.call('ZREMRANGEBYSCORE', own, '-inf', now - LAUNCHER_KEEP_MS)
  if not redis.call('ZSCORE', own, launcher) and redis.call('ZCARD', own) >= LAUNCHERS then
    local oldest = redis.call('ZRANGE', own, 0, 0, 'WITHSCORES')
    if now - tonumber(oldest[2]) <= silence_ms then return false end
    redis.call('ZREM', own, oldest[1])
    redis.call('ZREM', launchers, oldest[1])
    redis.call('DEL', reports .. oldest[1])
  end
  note_all_heard(launcher, {now, launcher})
  return true
end
