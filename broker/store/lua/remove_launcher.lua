#!lua flags=allow-oom
-- PURPOSE  Forget a launcher that says that it ends: from now on it counts as gone.
-- KEYS     launchers launchers_of reports
-- ARGV     launcher  text
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
redis.call('ZREM', launchers, launcher)
redis.call('ZREM', launchers_of .. (string.match(launcher, '^(.*)/') or ''), launcher)
redis.call('DEL', reports .. launcher)
return {'done'}
