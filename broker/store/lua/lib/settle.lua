-- Notes until when a settled item is kept. Needs: keep, time, item; keep_ms.
local function settle()
  redis.call('ZADD', keep, math.ceil((now + keep_ms) / KEEP_STEP_MS) * KEEP_STEP_MS, ref)
end
