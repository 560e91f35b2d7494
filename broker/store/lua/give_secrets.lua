#!lua flags=allow-oom
-- PURPOSE  Note that secrets are handed to an item's vm, if they are those that were read and the item is its own.
-- USES     time event item
-- KEYS     items vms stream events feed life account bell ready_bell secrets_of
-- ARGV     user      text
--          job       text
--          number    text
--          dispatch  uuid
--          shown_ms  ms
--          rest      text...
-- RETURN   done changed lost
-- MOVES    none
-- EMITS    secret.given
-- COST     O(secrets)
-- Answers  done, changed when one of the secrets has another version by now or is gone, or lost. `rest`: names and
--          versions. `shown_ms`: for how long from now the vm may still show what it is given.
if is.dispatch ~= dispatch or is.state ~= 'running' then return {'lost'} end
for index = rest, #ARGV, 2 do
  if redis.call('HGET', secrets_of .. ARGV[index], 'version') ~= ARGV[index + 1] then return {'changed'} end
end

local until_ms = now + shown_ms
for index = rest, #ARGV, 2 do
  local secret = secrets_of .. ARGV[index]
  local shown_until_ms = tonumber(redis.call('HGET', secret, 'shown_until_ms')) or 0
  redis.call('HSET', secret, 'shown_until_ms', math.max(until_ms, shown_until_ms))
  -- A header's secret goes along with each transfer: that a vm has it is told once.
  if redis.call('HGET', vms .. dispatch, 'gave:' .. ARGV[index]) ~= ARGV[index + 1] then
    redis.call('HSET', vms .. dispatch, 'gave:' .. ARGV[index], ARGV[index + 1])
    emit('secret.given', number, {dispatch = dispatch, fence = tonumber(is.fence), secret = ARGV[index],
      version = tonumber(ARGV[index + 1])})
  end
end
return {'done'}
