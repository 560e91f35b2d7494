-- Takes the item that was looked at out of `held`, its counters reset; it then enters `ready`.
-- Needs: items stream held keep, item.
local function release_it()
  redis.call('HDEL', item, 'code', 'sentence', 'exit_code', 'settled_ms', 'attempts', 'boots', 'given_back')
  redis.call('HSET', item, 'state', 'ready')
  redis.call('ZREM', held, number)
  redis.call('ZREM', keep, ref)
  count_items('held', -1)
end
