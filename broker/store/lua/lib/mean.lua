-- What a stream's vms take from dispatch to completion, on average: the next dispatches are charged by it. Written once
-- for all that complete in one script. Needs: stream.
local mean_ms
local function note_took(took_ms)
  mean_ms = mean_ms or tonumber(redis.call('HGET', stream, 'mean_ms')) or took_ms
  mean_ms = math.floor(mean_ms + (took_ms - mean_ms) / 8)
end
at_end[#at_end + 1] = function()
  if mean_ms then redis.call('HSET', stream, 'mean_ms', mean_ms) end
end
