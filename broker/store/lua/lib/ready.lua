-- Puts an item among its stream's ready ones: 'first' at the head of its lane, 'last' at the end.
-- Needs: items stream, queue, ring, event.
local function lane_and_entry(number)
  local known = redis.call('HMGET', items .. number, 'revision', 'gen', 'priority')
  return lane_of(known[1], known[3]), number .. ':' .. (known[2] or '0')
end

local function enter_ready(side, number)
  local lane, entry = lane_and_entry(number)
  if side == 'first' then enqueue_first(lane, entry) else enqueue_last(lane, {entry}) end
  count_items('ready', 1)
  join_rings()
  ring_ready()
end
