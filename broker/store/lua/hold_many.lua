#!lua flags=allow-oom
-- PURPOSE  Do the next part of a bulk hold: set items aside for a person.
-- USES     time event outbox counts numbers item kept settle holding progress
-- KEYS     items stream specs delayed held due keep events feed life account bell ready_bell bulk outbox owed owing
--          outbox_bell
-- ARGV     user      text
--          job       text
--          id        text
--          begin     int
--          most      int
--          code      text
--          sentence  text
-- RETURN   done changed
-- MOVES    delayed -> held, ready -> held
-- EMITS    items.held
-- COST     O(numbers looked at)
-- Answers  done, the number to go on from, and how many were held; changed when another process did this part.
if not is_at(begin) then return {'changed'} end

local set_aside = {}
local upto = pass_through(most, function(revision)
  keep_as(revision)
  hold_it()
  set_aside[#set_aside + 1] = number
end)
note_progress(upto, #set_aside, 0)
if #set_aside > 0 then
  emit('items.held', '', {state = 'held', code = code, sentence = sentence, count = #set_aside,
    numbers = ranges_of(set_aside)})
end
return {'done', upto, #set_aside, 0}
