-- The item as it is now: the one that `number` names, and any other that `look_at` is given.
-- Every act reads it: one table is made, and none is filled name by name. Needs: items, user job number.
local item, ref, is
local function look_at(wanted)
  number = wanted
  item = items .. wanted
  ref = user .. '/' .. job .. '/' .. wanted
  local has = redis.call('HMGET', item, 'state', 'dispatch', 'nonce', 'fence', 'attempts', 'boots', 'given_back',
    'claim_key', 'extended', 'claimed_ms', 'dispatched_ms', 'run_until_ms', 'boot_until_ms', 'closed', 'closed_act',
    'closed_fence', 'result', 'last')
  is = {state = has[1] or nil, dispatch = has[2] or nil, nonce = has[3] or nil, fence = has[4] or nil,
    attempts = has[5] or nil, boots = has[6] or nil, given_back = has[7] or nil, claim_key = has[8] or nil,
    extended = has[9] or nil, claimed_ms = has[10] or nil, dispatched_ms = has[11] or nil,
    run_until_ms = has[12] or nil, boot_until_ms = has[13] or nil, closed = has[14] or nil,
    closed_act = has[15] or nil, closed_fence = has[16] or nil, result = has[17] or nil, last = has[18] or nil}
end
if number then look_at(number) end
