#!lua
-- PURPOSE  Note a token that was made for somebody, so that it can be listed and revoked.
-- USES     time token
-- KEYS     token_of tokens_of sites
-- ARGV     owner    text
--          token    text
--          record   json
--          ends_ms  ms
--          most     int
-- RETURN   done full
-- MOVES    none
-- EMITS    none
-- COST     O(log tokens of the owner)
-- The owner is `user/NAME` or `site/NAME`.
if count_tokens(owner) >= most then return {'full'} end
local fields = {}
for name, value in pairs(cjson.decode(record)) do
  fields[#fields + 1] = name
  fields[#fields + 1] = value
end
keep_token(owner, token, ends_ms, unpack(fields))
local site = string.match(owner, '^site/(.*)$')
if site then redis.call('SADD', sites, site) end
return {'done'}
