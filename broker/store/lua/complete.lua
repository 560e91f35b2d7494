#!lua flags=allow-oom
-- PURPOSE  Accept an item's result, once; the same result again by the same lease gets the same answer.
-- USES     time event outbox ring counts mean bulk
-- EACH     item leave settle
-- KEYS     items vms stream delayed dispatched running done due keep deadlines events feed life bell ready_bell ring
--          user_ring fair account holds_of bulk outbox owed owing outbox_bell
-- ARGV     user       text
--          job        text
--          number     text
--          fence      int
--          nonce      hex
--          result     hex
--          outputs    json
--          exit_code  int
--          keep_ms    ms
--          said       text
--          rest       text...
-- RETURN   done repeated differs lost
-- MOVES    running -> done, ready -> done, delayed -> done
-- EMITS    item.completed
-- COST     O(log running)
-- `keep_ms`: how long the item is kept where its dispatch does not tell. An item that expired and that nobody was given since may still be settled, late. `said`: the
-- sentence of a vm's verdict `completed`. `rest`: names, values of facts.
if tonumber(is.fence) ~= fence or (is.nonce ~= nonce and is.closed ~= nonce) then return {'lost'} end
if is.nonce ~= nonce and is.closed_act == 'complete' then return {is.result == result and 'repeated' or 'differs'} end
local is_late = is.nonce ~= nonce and is.closed_act == 'expire'
if is_late and is.state ~= 'ready' and is.state ~= 'delayed' then return {'lost'} end
if is.nonce ~= nonce and not is_late then return {'lost'} end
if bulk_reaches(is.state, number) then return {'lost'} end

local vm = vms .. is.last
local told = redis.call('HMGET', vm, 'item', 'kept_for', 'verdict')
-- What an older broker gave out does not tell.
keep_ms = tonumber(told[2]) or keep_ms
if is_late then
  -- Its entry in the ready list is stale from now on: another generation.
  redis.call('HINCRBY', item, 'gen', 1)
  redis.call('HSET', item, 'state', 'done', 'closed_act', 'complete', 'closed_state', 'done', 'result', result,
    'outputs', outputs, 'exit_code', exit_code, 'settled_ms', now)
  redis.call('ZREM', delayed, number)
  redis.call('ZREM', due, ref)
  count_items(is.state, -1)
  if told[1] then redis.call('HSET', vm, 'over', 'complete', 'over_code', '', 'over_ms', now) end
else
  note_took(now - tonumber(is.dispatched_ms))
  leave_dispatch('complete', 'done', '', false, 'result', result, 'outputs', outputs, 'exit_code', exit_code,
    'settled_ms', now)
end
-- A dispatched item has none of them but the last.
if is_late or is.given_back then redis.call('HDEL', item, 'code', 'sentence', 'not_before_ms', 'given_back') end
redis.call('ZADD', done, now, number)
count_items('done', 1)
settle()
if told[1] then
  -- What its launcher said of the vm before the late result came holds no longer.
  if told[3] then redis.call('HSET', vm, 'verdict', 'completed', 'sentence', said) end
  for index = rest, #ARGV, 2 do redis.call('HSET', vm, 'fact:' .. ARGV[index], ARGV[index + 1]) end
end
emit('item.completed', number, {state = 'done', dispatch = is.last, fence = fence, exit_code = exit_code,
  is_late = is_late and 1 or 0})
return {'done'}
