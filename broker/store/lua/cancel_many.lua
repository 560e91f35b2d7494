#!lua flags=allow-oom
-- PURPOSE  Do the next part of a bulk cancel, or of a purge's first half: stop items for good.
-- USES     time event outbox ring counts numbers item leave kept settle cancelling progress
-- KEYS     items vms stream specs delayed dispatched running held cancelled due keep deadlines events feed life bell
--          ready_bell ring user_ring fair account holds_of bulk outbox owed owing outbox_bell
-- ARGV     user      text
--          job       text
--          id        text
--          begin     int
--          most      int
--          code      text
--          sentence  text
-- RETURN   done changed
-- MOVES    delayed -> cancelled, ready -> cancelled, dispatched -> cancelled, running -> cancelled, held -> cancelled
-- EMITS    items.cancelled
-- COST     O(numbers looked at)
-- Answers  done, the number to go on from, how many were cancelled, and how many of them a vm had; changed when another
--          process did this part.
if not is_at(begin) then return {'changed'} end

local stopped, had_vm = {}, 0
local upto = pass_through(most, function(revision)
  keep_as(revision)
  if is.dispatch then had_vm = had_vm + 1 end
  cancel_it()
  stopped[#stopped + 1] = number
end)
note_progress(upto, #stopped, had_vm)
if #stopped > 0 then
  emit('items.cancelled', '', {state = 'cancelled', code = code, sentence = sentence, count = #stopped,
    numbers = ranges_of(stopped)})
end
return {'done', upto, #stopped, had_vm}
