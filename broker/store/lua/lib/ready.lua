-- Puts an item into its stream's ready list: 'LPUSH' at the head, 'RPUSH' at the end.
-- Needs: items stream ready, ring, event.
local function enter_ready(side, number)
  local gen = redis.call('HGET', items .. number, 'gen') or '0'
  redis.call(side, ready, number .. ':' .. gen)
  redis.call('HINCRBY', stream, 'ready', 1)
  join_rings()
  ring_ready()
end
