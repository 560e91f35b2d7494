#!lua flags=allow-oom
-- PURPOSE  Put a held item back to the ready ones, its counters reset.
-- USES     time event ring counts queue ready item releasing
-- KEYS     items stream ready ready_of held keep events feed life bell ready_bell ring user_ring fair account
--          owed
-- ARGV     user       text
--          job        text
--          number     text
--          most_owed  int
-- RETURN   done repeated settled missing full
-- MOVES    held -> ready
-- EMITS    item.released
-- COST     O(log held)
-- Answers  done; repeated when it is unsettled; settled when it is done or cancelled; missing;
--          or full and how much the user's servers may be owed, when they are and its stream has one.
if not is.state then return {'missing'} end
if is.state == 'done' or is.state == 'cancelled' then return {'settled'} end
if is.state ~= 'held' then return {'repeated'} end
if redis.call('ZCARD', owed) >= most_owed and redis.call('HEXISTS', stream, 'callback') == 1 then
  return {'full', most_owed}
end

release_it()
enter_ready('last', number)
emit('item.released', number, {state = 'ready'})
return {'done'}
