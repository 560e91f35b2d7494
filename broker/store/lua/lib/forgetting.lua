-- Removes a settled item with all of its vms and its name. Needs: items vms names done held cancelled keep account, user job.
local function forget_item(number, state, last)
  local item = items .. number
  local dispatch = last
  while dispatch do
    local before = redis.call('HGET', vms .. dispatch, 'before')
    redis.call('DEL', vms .. dispatch)
    dispatch = before
  end
  local texts = redis.call('HMGET', item, 'url', 'name', 'params')
  if texts[2] and redis.call('HGET', names, texts[2]) == number then redis.call('HDEL', names, texts[2]) end
  redis.call('HINCRBY', account, 'items', -1)
  redis.call('HINCRBY', account, 'bytes', -(#(texts[1] or '') + #(texts[2] or '') + #(texts[3] or '')))
  redis.call('DEL', item)
  redis.call('ZREM', done, number)
  redis.call('ZREM', held, number)
  redis.call('ZREM', cancelled, number)
  redis.call('ZREM', keep, user .. '/' .. job .. '/' .. number)
  count_items(state, -1)
end
