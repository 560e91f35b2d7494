#!lua flags=allow-oom
-- PURPOSE  Do the next part of a bulk release: put held items back to the ready ones.
-- USES     time event ring counts queue ready numbers item releasing progress
-- KEYS     items stream ready ready_of held keep events feed life bell ready_bell ring user_ring fair account bulk
-- ARGV     user   text
--          job    text
--          id     text
--          begin  int
--          most   int
-- RETURN   done changed
-- MOVES    held -> ready
-- EMITS    items.released
-- COST     O(numbers looked at)
-- Answers  done, the number to go on from, and how many were released; changed when another process did this part.
if not is_at(begin) then return {'changed'} end

local back, lanes = {}, {}
local upto = pass_through(most, function()
  release_it()
  local lane, entry = lane_and_entry(number)
  lanes[lane] = lanes[lane] or {}
  lanes[lane][#lanes[lane] + 1] = entry
  back[#back + 1] = number
end)
for lane, entries in pairs(lanes) do enqueue_last(lane, entries) end
note_progress(upto, #back, 0)
if #back > 0 then
  count_items('ready', #back)
  join_rings()
  emit('items.released', '', {state = 'ready', count = #back, numbers = ranges_of(back)})
  ring_ready()
end
return {'done', upto, #back, 0}
