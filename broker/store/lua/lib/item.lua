-- The item as it is now: the one that `number` names, and any other that `look_at` is given.
-- Needs: items, user job number.
local item, ref, is
local function look_at(wanted)
  number = wanted
  item = items .. wanted
  ref = user .. '/' .. job .. '/' .. wanted
  is = {}
  local names = {'state', 'dispatch', 'nonce', 'fence', 'attempts', 'boots', 'given_back', 'claim_key', 'extended',
    'claimed_ms', 'dispatched_ms', 'run_until_ms', 'boot_until_ms', 'closed', 'closed_act', 'closed_fence',
    'result', 'last'}
  local values = redis.call('HMGET', item, unpack(names))
  for i, name in ipairs(names) do is[name] = values[i] or nil end
end
if number then look_at(number) end
