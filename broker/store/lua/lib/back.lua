-- Moves an item that got no result to where Python decided: `ready` at the head, `delayed`, or `held`.
-- Needs: delayed held due, item, leave, ready, settle, event; Python's decision: counts to delay_ms cause refunds code
-- sentence exit_code keep_ms. `cause` is the code of what happened, `code` that of the item's reason.
local function still_decided()
  local seen = (is.attempts or '0') .. ':' .. (is.boots or '0') .. ':' .. (is.given_back or '0')
  return is.dispatch == dispatch and counters == seen
end

local function go_back(act)
  local kind = 'item.given_back'
  leave_dispatch(act, to, cause, refunds == 1, 'code', code, 'sentence', sentence)
  if exit_code ~= '' then redis.call('HSET', item, 'exit_code', exit_code) end
  if counts == 'attempts' then
    redis.call('HINCRBY', item, 'attempts', 1)
    redis.call('HDEL', item, 'given_back')
    kind = 'item.delayed'
  else
    redis.call('HINCRBY', item, 'given_back', 1)
  end
  local data = {state = to, code = code, sentence = sentence, dispatch = dispatch, fence = tonumber(is.fence),
    was = is.state, act = act}
  if to == 'ready' then
    enter_ready('first', number)
  elseif to == 'delayed' then
    data.delay_ms = delay_ms
    redis.call('HSET', item, 'not_before_ms', now + delay_ms)
    redis.call('ZADD', delayed, now + delay_ms, number)
    redis.call('ZADD', due, now + delay_ms, ref)
    count_items('delayed', 1)
  else
    kind = 'item.held'
    redis.call('HSET', item, 'settled_ms', now)
    redis.call('ZADD', held, now, number)
    count_items('held', 1)
    settle()
  end
  emit(kind, number, data)
end
