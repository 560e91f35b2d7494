-- Logins and tokens by id, those of an owner by their end, and those that were revoked before they ended.
-- Needs: time. Keys: token_of tokens_of; to revoke: revoked revocations.
local function count_tokens(owner)
  redis.call('ZREMRANGEBYSCORE', tokens_of .. owner, '-inf', now)
  return redis.call('ZCARD', tokens_of .. owner)
end

local function keep_token(owner, id, ends_ms, ...)
  local record, listed = token_of .. id, tokens_of .. owner
  redis.call('HSET', record, 'owner', owner, 'created_ms', now, 'ends_ms', ends_ms, ...)
  redis.call('PEXPIREAT', record, ends_ms)
  redis.call('ZADD', listed, ends_ms, id)
  redis.call('PEXPIREAT', listed, math.max(ends_ms, redis.call('PEXPIRETIME', listed)))
end

-- Tells whether it was there to be revoked; who is not listed is revoked until `unknown_until_ms`, or let be.
local function revoke_token(id, unknown_until_ms)
  local is = redis.call('HMGET', token_of .. id, 'owner', 'ends_ms')
  local until_ms = tonumber(is[2]) or unknown_until_ms
  if until_ms <= now then return false end
  if is[1] then
    redis.call('DEL', token_of .. id)
    redis.call('ZREM', tokens_of .. is[1], id)
  end
  redis.call('ZADD', revoked, until_ms, id)
  redis.call('INCR', revocations)
  return true
end
