-- Puts an item among its stream's ready ones: 'first' at the head, 'last' at the end.
-- Needs: items stream, queue, ring, event.
local function enter_ready(side, number)
  local is = redis.call('HMGET', items .. number, 'revision', 'gen')
  local entry = number .. ':' .. (is[2] or '0')
  if side == 'first' then enqueue_first(is[1], entry) else enqueue_last(is[1], {entry}) end
  redis.call('HINCRBY', stream, 'ready', 1)
  join_rings()
  ring_ready()
end
