#!lua flags=allow-oom
-- PURPOSE  Remove items that were kept long enough since they settled, with all of their vms.
-- USES     time event counts forgetting
-- KEYS     items vms stream names done held cancelled keep events feed life bell ready_bell account
-- ARGV     user  text
--          job   text
--          rest  text...
-- RETURN   done changed
-- MOVES    none
-- EMITS    items.forgotten
-- COST     O(items and their vms)
-- Answers  done and how many; changed when none of them is past its time. `rest` are numbers, one or more. `gone` of
--          the stream: items up to this number are all forgotten, so that no listing looks for them.
local SETTLED = {done = true, held = true, cancelled = true}
local past = {}
for index = rest, #ARGV do
  local number = ARGV[index]
  local till = tonumber(redis.call('ZSCORE', keep, user .. '/' .. job .. '/' .. number))
  local is = redis.call('HMGET', items .. number, 'state', 'last')
  if SETTLED[is[1]] and till and till <= now then past[#past + 1] = {number = number, state = is[1], last = is[2]} end
end
if #past == 0 then return {'changed'} end

local first, last = tonumber(past[1].number), 0
for _, item in ipairs(past) do
  forget_item(item.number, item.state, item.last)
  first = math.min(first, tonumber(item.number))
  last = math.max(last, tonumber(item.number))
end
redis.call('HINCRBY', stream, 'forgotten', #past)
local known = redis.call('HMGET', stream, 'gone', 'last')
local gone = tonumber(known[1]) or 0
local most = math.min(tonumber(known[2]), gone + GONE_STEPS)
while gone < most and redis.call('EXISTS', items .. string.format('%.0f', gone + 1)) == 0 do gone = gone + 1 end
redis.call('HSET', stream, 'gone', gone)
emit('items.forgotten', '', {count = #past, first = first, last = last})
return {'done', #past}
