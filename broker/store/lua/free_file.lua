#!lua flags=allow-oom
-- PURPOSE  Give back room that a user's files do not take, or no more.
-- KEYS     account
-- ARGV     less_bytes  int
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(1)
local left = (tonumber(redis.call('HGET', account, 'file_bytes')) or 0) - less_bytes
redis.call('HSET', account, 'file_bytes', string.format('%.0f', math.max(left, 0)))
redis.call('HINCRBY', account, 'file_moves', 1)
return {'done'}
