#!lua
-- PURPOSE  Note what a submitter tells of its launcher jobs.
-- USES     time
-- KEYS     submitters submitters_of told_of
-- ARGV     submitter  text
--          report     json
--          serves     text
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(log submitters)
-- Each token's submitters have a bound of their own, and all together one; who told nothing for longest makes room.
local function of_token(name)
  return submitters_of .. (string.match(name, '^(.*)/') or '')
end

local function make_room(members, most)
  if redis.call('ZCARD', members) < most then return end
  local oldest = redis.call('ZRANGE', members, 0, 0)[1]
  redis.call('ZREM', of_token(oldest), oldest)
  redis.call('ZREM', submitters, oldest)
  redis.call('DEL', told_of .. oldest)
end

local own = of_token(submitter)
redis.call('ZREMRANGEBYSCORE', own, '-inf', now - LAUNCHER_KEEP_MS)
redis.call('ZREMRANGEBYSCORE', submitters, '-inf', now - LAUNCHER_KEEP_MS)
if not redis.call('ZSCORE', own, submitter) then
  make_room(own, SUBMITTERS)
  make_room(submitters, ALL_SUBMITTERS)
end
redis.call('ZADD', own, now, submitter)
redis.call('PEXPIRE', own, LAUNCHER_KEEP_MS)
redis.call('ZADD', submitters, now, submitter)
local record = told_of .. submitter
redis.call('HSET', record, 'report', report, 'serves', serves, 'told_ms', now)
redis.call('PEXPIRE', record, LAUNCHER_KEEP_MS)
return {'done'}
