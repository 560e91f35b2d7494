#!lua flags=allow-oom
-- PURPOSE  Note what a user's files were found to take on the disk, if nothing moved since the counting began.
-- KEYS     account
-- ARGV     moves       int
--          size_bytes  int
-- RETURN   done changed
-- MOVES    none
-- EMITS    none
-- COST     O(1)
if (tonumber(redis.call('HGET', account, 'file_moves')) or 0) ~= moves then return {'changed'} end
redis.call('HSET', account, 'file_bytes', string.format('%.0f', size_bytes), 'file_counted', moves)
return {'done'}
