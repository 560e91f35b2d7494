#!lua flags=allow-oom
-- PURPOSE  Forget a submitter that has no launcher jobs any more.
-- KEYS     submitters submitters_of told_of
-- ARGV     submitter  text
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(log submitters)
redis.call('ZREM', submitters, submitter)
redis.call('ZREM', submitters_of .. (string.match(submitter, '^(.*)/') or ''), submitter)
redis.call('DEL', told_of .. submitter)
return {'done'}
