-- Pauses the stream: it is in no ring from now on. Needs: stream, ring, event, time.
local function pause_stream(code, sentence)
  redis.call('HSET', stream, 'paused', code, 'paused_sentence', sentence, 'paused_ms', now)
  leave_rings()
  emit('stream.paused', '', {code = code, sentence = sentence})
end
