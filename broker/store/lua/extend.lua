#!lua flags=allow-oom
-- PURPOSE  Push a lease's deadline back, never past the run limit.
-- USES     time
-- EACH     item
-- KEYS     items vms deadlines
-- ARGV     user      text
--          job       text
--          number    text
--          fence     int
--          nonce     hex
--          lease_ms  ms
--          progress  text
-- RETURN   done draining cancelled lost
-- MOVES    running -> running
-- EMITS    none
-- COST     O(log deadlines)
-- Answers  done, or draining when the launcher will soon destroy the vm, and the milliseconds to the deadline; or
--          cancelled, or lost. A lease that was extended once has lasted: give backs in a row are counted anew,
--          and the claim cannot be repeated any more.
if is.nonce ~= nonce or tonumber(is.fence) ~= fence then
  local was_its_own = is.closed == nonce and tonumber(is.closed_fence) == fence
  return {was_its_own and is.closed_act == 'cancel' and 'cancelled' or 'lost'}
end

local deadline = math.min(now + lease_ms, tonumber(is.run_until_ms))
redis.call('ZADD', deadlines, deadline, ref)
if not is.extended then
  redis.call('HSET', item, 'extended', 1)
  redis.call('HDEL', item, 'given_back')
end
if progress ~= '' then redis.call('HSET', vms .. is.dispatch, 'fact:progress', progress) end
return {redis.call('HEXISTS', vms .. is.dispatch, 'stops_ms') == 1 and 'draining' or 'done', math.max(0, deadline - now)}
