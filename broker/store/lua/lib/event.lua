-- Writes an event into the stream's log, gapless, and rings bells. Needs: stream events bell, time.
local function emit(kind, number, data)
  local seq = redis.call('HINCRBY', stream, 'seq', 1)
  local epoch = redis.call('HGET', stream, 'epoch')
  redis.call('XADD', events, 'MAXLEN', '~', EVENT_LOG, epoch .. '-' .. seq,
    'kind', kind, 'at_ms', now, 'number', number, 'data', cjson.encode(data))
  redis.call('PUBLISH', bell, 'event')
end

local function ring_ready()
  redis.call('PUBLISH', bell, 'ready')
end
