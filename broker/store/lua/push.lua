#!lua
-- PURPOSE  Add items to a stream, all or none; a repeated idempotency key gets the first answer.
-- USES     time event ring counts queue bulk
-- KEYS     items stream ready ready_of delayed due names events feed life bell ready_bell ring user_ring fair
--          account bulk push_key owed
-- ARGV     user         text
--          job          text
--          keyed        flag
--          digest       hex
--          most_items   int
--          most_bytes   int
--          most_owed    int
--          size         int
--          width        int
--          revision     int
--          rest         text...
-- RETURN   done repeated reused missing changed full purging
-- MOVES    none -> ready, none -> delayed
-- EMITS    items.pushed
-- COST     O(items)
-- Answers  done or repeated, the first and the last number, and how many were left out because their name was there.
--          changed when the spec has another revision than `revision`; 0 is any. full, and which bound of the user's:
--          items, bytes or callbacks, and where it stands. `rest` is of each item the first `width` of url, name, parameters,
--          order and further inputs; '' is none, and the others none of them has. An order is its priority class, ':' and the
--          milliseconds of its delay.
local FIELDS = {[0] = 'url', [1] = 'name', [2] = 'params', [4] = 'inputs'}
local spec = redis.call('HMGET', stream, 'revision', 'last', 'born', 'callback')
if not spec[1] then return {'missing'} end
if keyed == 1 then
  local known = redis.call('GET', push_key)
  if known then
    local known_digest, first, last, left_out, born = string.match(known, '^(%S+) (%d+) (%d+) ?(%d*) ?(%d*)$')
    -- What was pushed before the stream was purged and made anew is nothing to it.
    if born == '' or born == spec[3] then
      if known_digest ~= digest then return {'reused'} end
      return {'repeated', tonumber(first), tonumber(last), tonumber(left_out) or 0}
    end
  end
end
if revision ~= 0 and tonumber(spec[1]) ~= revision then return {'changed'} end
if is_purging() then return {'purging'} end
if spec[4] and redis.call('ZCARD', owed) >= most_owed then return {'full', 'callbacks', most_owed} end

local function value_of(at, column)
  return column < width and ARGV[at + column] or ''
end

local new, seen, bytes = {}, {}, 0
for at = rest, rest + (size - 1) * width, width do
  local name = value_of(at, 1)
  if name == '' or not (seen[name] or redis.call('HEXISTS', names, name) == 1) then
    seen[name] = name ~= ''
    new[#new + 1] = at
    bytes = bytes + #ARGV[at] + #name + #value_of(at, 2) + #value_of(at, 4)
  end
end
local has = redis.call('HMGET', account, 'items', 'bytes', 'most:items', 'most:bytes')
most_items, most_bytes = tonumber(has[3]) or most_items, tonumber(has[4]) or most_bytes
if (tonumber(has[1]) or 0) + #new > most_items then return {'full', 'items', most_items} end
if (tonumber(has[2]) or 0) + bytes > most_bytes then return {'full', 'bytes', most_bytes} end

local first = (tonumber(spec[2]) or 0) + 1
local last = first + #new - 1
local lanes, later, pushed = {}, 0, string.format('%.0f', now)

-- Adds an item that says more than its URL; returns its lane, or none where it is delayed.
local function add(number, at)
  local fields, count = {'state', 'ready', 'revision', spec[1], 'pushed_ms', pushed}, 6
  local function note(name, value)
    if value ~= '' then fields[count + 1], fields[count + 2], count = name, value, count + 2 end
  end
  for column, field in pairs(FIELDS) do note(field, value_of(at, column)) end
  local priority, delay_ms = string.match(value_of(at, 3), '^(%a*):(%d*)$')
  note('priority', priority or '')
  local is_delayed = (delay_ms or '') ~= ''
  if is_delayed then
    local at_ms = now + tonumber(delay_ms)
    fields[2] = 'delayed'
    note('not_before_ms', at_ms)
    redis.call('ZADD', delayed, at_ms, number)
    redis.call('ZADD', due, at_ms, user .. '/' .. job .. '/' .. number)
    later = later + 1
  end
  redis.call('HSET', items .. number, unpack(fields))
  if value_of(at, 1) ~= '' then redis.call('HSET', names, ARGV[at + 1], number) end
  return not is_delayed and lane_of(spec[1], priority) or nil
end

for index, at in ipairs(new) do
  local number, lane = string.format('%d', first + index - 1), spec[1]
  if width == 1 and ARGV[at] ~= '' then
    -- What most pushes are made of: no list of fields is made for each.
    redis.call('HSET', items .. number, 'state', 'ready', 'revision', spec[1], 'pushed_ms', pushed, 'url', ARGV[at])
  else
    lane = add(number, at)
  end
  if lane then
    lanes[lane] = lanes[lane] or {}
    lanes[lane][#lanes[lane] + 1] = number .. ':0'
  end
end
for lane, entries in pairs(lanes) do enqueue_last(lane, entries) end
redis.call('HSET', stream, 'last', last)
count_items('ready', #new - later)
count_items('delayed', later)
redis.call('HINCRBY', account, 'items', #new)
redis.call('HINCRBY', account, 'bytes', bytes)
if keyed == 1 then
  local known = string.format('%s %.0f %.0f %.0f %s', digest, first, last, size - #new, spec[3] or '')
  redis.call('SET', push_key, known, 'PX', IDEMPOTENCY_MS)
end
if #new > later then
  join_rings()
  ring_ready()
end
if #new > 0 then emit('items.pushed', '', {first = first, last = last, delayed = later > 0 and later or nil}) end
return {'done', first, last, size - #new}
