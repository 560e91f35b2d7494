#!lua
-- PURPOSE  Note that launchers are there which wait, and find those whose dispatch key was given something before.
-- USES     time heard
-- KEYS     launchers launchers_of reports
-- ARGV     silence_ms  ms
--          rest        text...
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(launchers)
-- Answers  done and of each launcher a word: heard, given when its key was, or full when its token has as many launchers
--          as may be. `rest` is launcher and the name of its dispatch key, of each.
local words = {}
for index = rest, #ARGV, 2 do
  local word = note_heard(ARGV[index]) and 'heard' or 'full'
  if redis.call('EXISTS', ARGV[index + 1]) == 1 then word = 'given' end
  words[#words + 1] = word
end
return {'done', unpack(words)}
