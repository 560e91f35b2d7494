-- A part of a bulk act: items are looked at in the order of their numbers, many in one part, of which some are acted upon.
-- Only the part that comes next is done, so that any number of processes may try.
-- Needs: items bulk, item, id; time.
local function is_at(begin)
  local known = redis.call('HMGET', bulk, 'id', 'next', 'over_ms')
  return known[1] == id and tonumber(known[2]) == begin and not known[3]
end

local function pass_through(most, act)
  local told = redis.call('HMGET', bulk, 'next', 'upto', 'states')
  local at, last, states, acted = tonumber(told[1]), tonumber(told[2]), told[3], 0
  local until_ = math.min(last, at + LOOKED_AT - 1)
  while at <= until_ and acted < most do
    local wanted = string.format('%.0f', at)
    local known = redis.call('HMGET', items .. wanted, 'state', 'revision')
    if known[1] and string.find(states, ',' .. known[1] .. ',', 1, true) then
      look_at(wanted)
      act(known[2])
      acted = acted + 1
    end
    at = at + 1
  end
  return at
end

local function note_progress(upto, acted, had_vm)
  redis.call('HSET', bulk, 'next', upto, 'stepped_ms', now)
  redis.call('HINCRBY', bulk, 'acted', acted)
  redis.call('HINCRBY', bulk, 'had_vm', had_vm)
end
