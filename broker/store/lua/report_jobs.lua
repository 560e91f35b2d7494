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
-- Each token's submitters have a bound of their own; the one that told nothing for longest makes room.
local own = submitters_of .. (string.match(submitter, '^(.*)/') or '')
redis.call('ZREMRANGEBYSCORE', own, '-inf', now - LAUNCHER_KEEP_MS)
redis.call('ZREMRANGEBYSCORE', submitters, '-inf', now - LAUNCHER_KEEP_MS)
if not redis.call('ZSCORE', own, submitter) and redis.call('ZCARD', own) >= SUBMITTERS then
  local oldest = redis.call('ZRANGE', own, 0, 0)[1]
  redis.call('ZREM', own, oldest)
  redis.call('ZREM', submitters, oldest)
  redis.call('DEL', told_of .. oldest)
end
redis.call('ZADD', own, now, submitter)
redis.call('PEXPIRE', own, LAUNCHER_KEEP_MS)
redis.call('ZADD', submitters, now, submitter)
local record = told_of .. submitter
redis.call('HSET', record, 'report', report, 'serves', serves, 'told_ms', now)
redis.call('PEXPIRE', record, LAUNCHER_KEEP_MS)
return {'done'}
