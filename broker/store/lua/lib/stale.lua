-- Entries of items that left `ready` by another way than the queue's head.
-- Needs: items ready_of.
local function number_and_generation(entry)
  return string.match(entry, '^(%d+):(%d+)')
end

local function is_stale_as(generation, state, gen)
  return state ~= 'ready' or (gen or '0') ~= generation
end

local function is_stale(entry)
  local listed, generation = number_and_generation(entry)
  local known = redis.call('HMGET', items .. listed, 'state', 'gen')
  return is_stale_as(generation, known[1], known[2])
end
