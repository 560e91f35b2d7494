#!lua flags=allow-oom
-- PURPOSE  Forget a launcher that says that it ends: from now on it counts as gone.
-- KEYS     launchers record
-- ARGV     launcher  text
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(log launchers)
redis.call('ZREM', launchers, launcher)
redis.call('DEL', record)
return {'done'}
