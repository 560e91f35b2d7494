#!lua flags=allow-oom
-- PURPOSE  Set an item aside for a person, before it is given out.
-- USES     time event outbox counts item settle holding
-- KEYS     items stream delayed held due keep events feed life account bell ready_bell outbox owed owing outbox_bell
-- ARGV     user      text
--          job       text
--          number    text
--          code      text
--          sentence  text
--          keep_ms   ms
-- RETURN   done repeated settled given missing
-- MOVES    delayed -> held, ready -> held
-- EMITS    item.held
-- COST     O(log items in the item's state)
-- Answers  done; repeated when it is held already, whatever for; settled; given when a vm has it; or missing.
if not is.state then return {'missing'} end
if is.state == 'held' then return {'repeated'} end
if is.state == 'done' or is.state == 'cancelled' then return {'settled'} end
if is.dispatch then return {'given'} end

hold_it()
emit('item.held', number, {state = 'held', code = code, sentence = sentence, was = is.state, act = 'hold'})
return {'done'}
