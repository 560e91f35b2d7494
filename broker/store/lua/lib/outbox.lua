-- Owes the stream's server what settles items, in the very script that settles them: an entry of the user's outbox for
-- each event of a kind that it is told, due now. Nothing trims the outbox.
-- Stands after `event`. Needs: time; user. Keys: outbox owed owing outbox_bell.
local owes = false
owe = function(job, id, kind, number, data)
  if not string.find(told_kinds, ' ' .. kind .. ' ', 1, true) then return end
  local entry = redis.call('XADD', outbox, '*', 'job', job, 'id', id, 'kind', kind, 'at_ms', now, 'number', number,
    'data', data)
  redis.call('ZADD', owed, now, entry)
  owes = true
end
at_end[#at_end + 1] = function()
  if not owes then return end
  redis.call('ZADD', owing, 'LT', now, user)
  redis.call('PUBLISH', outbox_bell, '')
end
