#!lua
-- PURPOSE  Take room for bytes of a user's files, before they come.
-- KEYS     account
-- ARGV     more_bytes  int
--          most_bytes  int
-- RETURN   done full
-- MOVES    none
-- EMITS    none
-- COST     O(1)
-- Answers  done; or full and the bound when the user would have more than they may.
local has = redis.call('HMGET', account, 'file_bytes', 'most:file_bytes')
most_bytes = tonumber(has[2]) or most_bytes
if (tonumber(has[1]) or 0) + more_bytes > most_bytes then return {'full', most_bytes} end
redis.call('HINCRBY', account, 'file_bytes', more_bytes)
redis.call('HINCRBY', account, 'file_moves', 1)
return {'done'}
