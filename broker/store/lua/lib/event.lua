-- Writes an event into the stream's log and, whole, into its user's feed, both gapless, and rings the bell of both.
-- A log's epoch is new with the log, and with every other process that serves the store: what was told of the end of a
-- log that a crash or a restored copy then lost is no id in what is written in its place.
-- Needs: stream events feed life account bell, time.
local alive
local epochs = {}
local function epoch_of(log, field)
  if epochs[log] then return epochs[log], false end
  alive = alive or redis.call('HGET', life, 'number') or ''
  local known = redis.call('HMGET', log, field, field .. '_life')
  epochs[log] = known[1]
  if known[1] and (known[2] or '') == alive then return known[1], false end
  local epoch = math.max(now, (tonumber(known[1]) or 0) + 1)
  epochs[log] = epoch
  redis.call('HSET', log, field, epoch, field .. '_life', alive)
  return epoch, true
end

-- The feed itself counts within an epoch: one write less an event.
local function feed_id()
  local epoch, is_new = epoch_of(account, 'feed_epoch')
  if not is_new then return epoch .. '-*' end
  local last = redis.call('XREVRANGE', feed, '+', '-', 'COUNT', 1)[1]
  return epoch .. '-' .. (last and tonumber(string.match(last[1], '%d+$')) or 0) + 1
end

local function emit(kind, number, data)
  local id = epoch_of(stream, 'epoch') .. '-' .. redis.call('HINCRBY', stream, 'seq', 1)
  local fact = {'kind', kind, 'at_ms', now, 'number', number, 'data', cjson.encode(data)}
  redis.call('XADD', events, 'MAXLEN', '~', EVENT_LOG, id, unpack(fact))
  redis.call('XADD', feed, 'MAXLEN', '~', EVENT_FEED, feed_id(),
    'job', string.match(events, '[^/]+$'), 'id', id, unpack(fact))
  redis.call('PUBLISH', bell, 'event')
end

local function ring_ready()
  redis.call('PUBLISH', bell, 'ready')
end
