-- How many of a stream's items are in each state: counted up and down, and written once for all that one script moves.
-- Needs: stream.
local moved = {}
local function count_items(state, by)
  moved[state] = (moved[state] or 0) + by
end
at_end[#at_end + 1] = function()
  for state, by in pairs(moved) do
    if by ~= 0 then redis.call('HINCRBY', stream, state, by) end
  end
end
