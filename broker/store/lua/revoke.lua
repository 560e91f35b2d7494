#!lua
-- PURPOSE  Revoke logins and tokens: whatever was made with one of them ends with it.
-- USES     time token
-- KEYS     token_of tokens_of revoked revocations
-- ARGV     unknown_until_ms  ms
--          most              int
--          rest              text...
-- RETURN   done full
-- MOVES    none
-- EMITS    none
-- COST     O(log revoked) each
-- Answers  done and how many are revoked now that were not before; full when that many are revoked and did not end yet.
--          `rest`: ids. `unknown_until_ms`: one that is not listed is revoked until then; 0 lets it be.
redis.call('ZREMRANGEBYSCORE', revoked, '-inf', now)
if redis.call('ZCARD', revoked) + #ARGV - rest + 1 > most then return {'full'} end
local count = 0
for index = rest, #ARGV do
  if revoke_token(ARGV[index], unknown_until_ms) then count = count + 1 end
end
return {'done', count}
