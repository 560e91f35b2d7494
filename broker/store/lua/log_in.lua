#!lua
-- PURPOSE  Spend a one-time code, or the word of an issuer, on a login.
-- USES     time token
-- KEYS     code token_of tokens_of revoked revocations
-- ARGV     login         text
--          login_key     text
--          name          text
--          life_ms       ms
--          user          text
--          scopes        text
--          code_life_ms  ms
--          most          int
-- RETURN   done repeated missing spent full
-- MOVES    none
-- EMITS    none
-- COST     O(log tokens of the user)
-- Answers  done or repeated and the login, its user, its scopes and its end; missing when there is no such code; spent
--          when somebody else used it, whose login is revoked; full when the user has too many. `user` and `scopes`
--          are those of an issuer's word, which is remembered as a code is; '' with a code.
local is = redis.call('HMGET', code, 'user', 'scopes', 'login_key', 'login')
local is_new = user ~= '' and not is[1]
if is_new then is = {user, scopes, false, false} end
if not is[1] then return {'missing'} end
if is[3] and is[3] ~= login_key then
  revoke_token(is[4], 0)
  return {'spent'}
end
if is[3] then
  local ends_ms = redis.call('HGET', token_of .. is[4], 'ends_ms')
  if not ends_ms then return {'missing'} end
  return {'repeated', is[4], is[1], is[2], ends_ms}
end
local owner = 'user/' .. is[1]
if count_tokens(owner) >= most then return {'full'} end
local ends_ms = now + life_ms
redis.call('HSET', code, 'user', is[1], 'scopes', is[2], 'login_key', login_key, 'login', login)
if is_new then redis.call('PEXPIRE', code, code_life_ms) end
keep_token(owner, login, ends_ms, 'kind', 'login', 'subject', is[1], 'scopes', is[2], 'name', name)
return {'done', login, is[1], is[2], ends_ms}
