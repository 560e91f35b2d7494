-- The item as it is now. Needs: items, user job number.
local item = items .. number
local ref = user .. '/' .. job .. '/' .. number
local is = {}
do
  local names = {'state', 'dispatch', 'nonce', 'fence', 'attempts', 'boots', 'given_back', 'claim_key', 'extended',
    'claimed_ms', 'dispatched_ms', 'run_until_ms', 'boot_until_ms', 'closed', 'closed_act', 'closed_fence',
    'result', 'last'}
  local values = redis.call('HMGET', item, unpack(names))
  for i, name in ipairs(names) do is[name] = values[i] or nil end
end
