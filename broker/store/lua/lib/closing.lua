-- Tells a vm whose guest said its last word a moment ago, and may power off in peace, from one that lost its item,
-- and that from one whose item was cancelled.
-- Needs: time; silence_ms.
local function closing(act, at_ms)
  local by_guest = act == 'complete' or act == 'fail' or act == 'give_back'
  if by_guest and now - tonumber(at_ms) < silence_ms then return 'closing' end
  return act == 'cancel' and 'cancelled' or 'over'
end
