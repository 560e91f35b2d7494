#!lua
-- PURPOSE  Let a login be good for longer, since it is used.
-- USES     time token
-- KEYS     token_of tokens_of
-- ARGV     login    text
--          life_ms  ms
--          most_ms  ms
-- RETURN   done missing
-- MOVES    none
-- EMITS    none
-- COST     O(log tokens of the user)
-- Answers  done and its user, its scopes and its end, or missing. `most_ms`: since it was made, whatever it is used.
local record = token_of .. login
local is = redis.call('HMGET', record, 'kind', 'subject', 'scopes', 'created_ms', 'ends_ms', 'owner')
if is[1] ~= 'login' then return {'missing'} end
local ends_ms = math.max(tonumber(is[5]), math.min(now + life_ms, tonumber(is[4]) + most_ms))
redis.call('HSET', record, 'ends_ms', ends_ms)
redis.call('PEXPIREAT', record, ends_ms)
redis.call('ZADD', tokens_of .. is[6], ends_ms, login)
redis.call('PEXPIREAT', tokens_of .. is[6], math.max(ends_ms, redis.call('PEXPIRETIME', tokens_of .. is[6])))
return {'done', is[2], is[3], ends_ms}
