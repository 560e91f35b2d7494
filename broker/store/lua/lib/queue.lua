-- A stream's ready items, in a list for each lane: a spec revision and, but for the normal one, a priority class as
-- `REVISION:CLASS`. Those that no launcher has room for hide no others.
-- An entry is `NUMBER:GENERATION`, and with `:PLACE` its place in the order of them all. `ready` has the lanes that have
-- entries, each by its class and the place of its first one.
-- Needs: stream ready ready_of.
local CLASS_OFFSETS = {high = -1e14, low = 1e14}

local function lane_of(revision, priority)
  return CLASS_OFFSETS[priority] and revision .. ':' .. priority or revision
end

local function order_of(lane, place)
  return place + (CLASS_OFFSETS[string.match(lane, ':(%a+)$')] or 0)
end

local function enqueue_last(lane, entries)
  local place = redis.call('HINCRBY', stream, 'last_place', #entries) - #entries
  for index, entry in ipairs(entries) do entries[index] = string.format('%s:%.0f', entry, place + index) end
  redis.call('RPUSH', ready_of .. lane, unpack(entries))
  redis.call('ZADD', ready, 'NX', order_of(lane, place + 1), lane)
end

local function enqueue_first(lane, entry)
  local place = redis.call('HINCRBY', stream, 'first_place', -1)
  redis.call('LPUSH', ready_of .. lane, string.format('%s:%.0f', entry, place))
  redis.call('ZADD', ready, order_of(lane, place), lane)
end

local function dequeue(lane, count)
  redis.call('LTRIM', ready_of .. lane, count, -1)
  local first = redis.call('LINDEX', ready_of .. lane, 0)
  if first then
    redis.call('ZADD', ready, order_of(lane, tonumber(string.match(first, '-?%d+$'))), lane)
  else
    redis.call('ZREM', ready, lane)
  end
end
