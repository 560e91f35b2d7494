-- Writes events into the stream's log and, whole, into its user's feed, both gapless, and rings the bell of both.
-- They are written when the script's work is done, all of them at once.
-- A log's epoch is new with the log, and with every other process that serves the store: what was told of the end of a
-- log that a crash or a restored copy then lost is no id in what is written in its place.
-- Needs: stream events feed life account bell ready_bell, time.
local alive
local epochs = {}
-- Which kinds of events the stream's server is told, and who notes that it is: see `outbox`.
local told_kinds, owe
local function epoch_of(log, field)
  if epochs[log] then return epochs[log], false end
  alive = alive or redis.call('HGET', life, 'number') or ''
  local known = redis.call('HMGET', log, field, field .. '_life', 'callback')
  epochs[log] = known[1]
  told_kinds = told_kinds or known[3]
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

local told = {}
local function emit(kind, number, data)
  told[#told + 1] = {kind, number, cjson.encode(data)}
end

local function write_events()
  if #told == 0 then return end
  local epoch, job = epoch_of(stream, 'epoch'), string.match(events, '[^/]+$')
  local first = redis.call('HINCRBY', stream, 'seq', #told) - #told
  for index, event in ipairs(told) do
    local id = epoch .. '-' .. first + index
    redis.call('XADD', events, 'MAXLEN', '~', EVENT_LOG, id,
      'kind', event[1], 'at_ms', now, 'number', event[2], 'data', event[3])
    redis.call('XADD', feed, 'MAXLEN', '~', EVENT_FEED, feed_id(), 'job', job, 'id', id,
      'kind', event[1], 'at_ms', now, 'number', event[2], 'data', event[3])
    if owe and told_kinds then owe(job, id, unpack(event)) end
  end
  told = {}
  redis.call('PUBLISH', bell, '')
end
at_end[#at_end + 1] = write_events

local rings_ready = false
local function ring_ready()
  rings_ready = true
end
at_end[#at_end + 1] = function()
  if rings_ready then redis.call('PUBLISH', ready_bell, string.match(events, '[^:]+$')) end
end
