-- Removes a settled item with all of its vms and its name. Needs: items vms names done held cancelled keep account, user job.
local function forget_item(number, state, last)
  local item = items .. number
  local dispatch = last
  while dispatch do
    local before = redis.call('HGET', vms .. dispatch, 'before')
    redis.call('DEL', vms .. dispatch)
    dispatch = before
  end
  local texts = redis.call('HMGET', item, 'url', 'name', 'params', 'inputs')
  if texts[2] and redis.call('HGET', names, texts[2]) == number then redis.call('HDEL', names, texts[2]) end
  redis.call('HINCRBY', account, 'items', -1)
  local bytes = 0
  for index = 1, 4 do bytes = bytes + #(texts[index] or '') end
  redis.call('HINCRBY', account, 'bytes', -bytes)
  redis.call('DEL', item)
  redis.call('ZREM', done, number)
  redis.call('ZREM', held, number)
  redis.call('ZREM', cancelled, number)
  redis.call('ZREM', keep, user .. '/' .. job .. '/' .. number)
  count_items(state, -1)
end
