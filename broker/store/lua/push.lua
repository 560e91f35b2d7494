#!lua
-- PURPOSE  Add items to a stream, all or none; a repeated idempotency key gets the first answer.
-- USES     time event ring queue
-- KEYS     items stream ready ready_of events feed life bell ring user_ring fair account push_key
-- ARGV     user    text
--          job     text
--          keyed   flag
--          digest  hex
--          size    int
--          rest    text...
-- RETURN   done repeated reused missing
-- MOVES    none -> ready
-- EMITS    items.pushed
-- COST     O(items)
-- Answers  done or repeated, the first and the last number. `rest` is url, name, parameters of each item; '' is none.
local spec = redis.call('HMGET', stream, 'revision', 'last')
if not spec[1] then return {'missing'} end
if keyed == 1 then
  local known = redis.call('GET', push_key)
  if known then
    local known_digest, known_first, known_last = string.match(known, '^(%S+) (%d+) (%d+)$')
    if known_digest ~= digest then return {'reused'} end
    return {'repeated', tonumber(known_first), tonumber(known_last)}
  end
end

local first = (tonumber(spec[2]) or 0) + 1
local last = first + size - 1
local entries = {}
for index = 1, size do
  local number = string.format('%.0f', first + index - 1)
  local fields = {'state', 'ready', 'revision', spec[1], 'pushed_ms', now}
  for offset, field in ipairs({'url', 'name', 'params'}) do
    local value = ARGV[rest + (index - 1) * 3 + offset - 1]
    if value ~= '' then
      fields[#fields + 1] = field
      fields[#fields + 1] = value
    end
  end
  redis.call('HSET', items .. number, unpack(fields))
  entries[index] = number .. ':0'
end
enqueue_last(spec[1], entries)
redis.call('HSET', stream, 'last', last)
redis.call('HINCRBY', stream, 'ready', size)
if keyed == 1 then
  redis.call('SET', push_key, string.format('%s %.0f %.0f', digest, first, last), 'PX', IDEMPOTENCY_MS)
end
join_rings()
emit('items.pushed', '', {first = first, last = last})
ring_ready()
return {'done', first, last}
