-- How much the launchers of a token with a bound may hold; `holder` is '' without one.
-- Needs: holder most_held. Keys: holds_of.
local function most_by_token(most)
  if holder == '' then return most end
  return math.min(most, most_held - redis.call('SCARD', holds_of .. holder))
end

local function hold_by_token(vm, dispatch)
  if holder == '' then return end
  redis.call('SADD', holds_of .. holder, dispatch)
  redis.call('HSET', vm, 'holder', holder)
end
