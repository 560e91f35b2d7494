-- A stream's ready items, in a list for each spec revision: those that no launcher has room for hide no others.
-- An entry is `NUMBER:GENERATION`, and with `:PLACE` its place in the order of them all. `ready` has the revisions that
-- have entries, each by the place of its first one.
-- Needs: stream ready ready_of.
local function enqueue_last(revision, entries)
  local place = redis.call('HINCRBY', stream, 'last_place', #entries) - #entries
  for index, entry in ipairs(entries) do entries[index] = string.format('%s:%.0f', entry, place + index) end
  redis.call('RPUSH', ready_of .. revision, unpack(entries))
  redis.call('ZADD', ready, 'NX', place + 1, revision)
end

local function enqueue_first(revision, entry)
  local place = redis.call('HINCRBY', stream, 'first_place', -1)
  redis.call('LPUSH', ready_of .. revision, string.format('%s:%.0f', entry, place))
  redis.call('ZADD', ready, place, revision)
end

local function dequeue(revision, count)
  redis.call('LTRIM', ready_of .. revision, count, -1)
  local first = redis.call('LINDEX', ready_of .. revision, 0)
  if first then
    redis.call('ZADD', ready, string.match(first, '-?%d+$'), revision)
  else
    redis.call('ZREM', ready, revision)
  end
end
