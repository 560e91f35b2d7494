-- Entries of items that left `ready` by another way than the queue's head.
-- Needs: items ready_of.
local function is_stale(entry)
  local listed, gen = string.match(entry, '^(%d+):(%d+):')
  local known = redis.call('HMGET', items .. listed, 'state', 'gen')
  return known[1] ~= 'ready' or (known[2] or '0') ~= gen
end
