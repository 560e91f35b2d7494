-- A bulk act that is being carried out: an item that it will stop or set aside counts as if it had been already.
-- Needs: bulk.
local bulk_act
local function read_bulk()
  bulk_act = bulk_act or redis.call('HMGET', bulk, 'act', 'upto', 'states', 'over_ms')
  return bulk_act
end

local function bulk_reaches(state, number)
  local act = read_bulk()
  return act[1] and not act[4] and act[1] ~= 'release' and tonumber(number) <= tonumber(act[2])
    and string.find(act[3], ',' .. state .. ',', 1, true) ~= nil
end

local function is_purging()
  local act = read_bulk()
  return act[1] == 'purge' and not act[4]
end
