#!lua
-- PURPOSE  Note that launchers are there which wait, and find those whose dispatch key was given something before.
-- USES     time heard
-- KEYS     launchers launchers_of reports
-- ARGV     silence_ms  ms
--          rest        text...
-- RETURN   done
-- MOVES    none
-- EMITS    none
-- COST     O(launchers), in few commands for each token where all are known and none was given anything
-- Answers  done and of each launcher a word: heard, given when its key was, or full when its token has as many launchers
--          as may be. `rest` is launcher and the name of its dispatch key, of each, a token's one after another.
local words, keys = {}, {}
local function hear(names)
  local known = redis.call('ZMSCORE', own_of(names[1]), unpack(names))
  local dated = {}
  for index, name in ipairs(names) do
    local word = 'heard'
    if known[index] then
      dated[#dated + 1] = now
      dated[#dated + 1] = name
    elseif not note_heard(name) then
      word = 'full'
    end
    words[#words + 1] = word
  end
  if #dated > 0 then note_all_heard(names[1], dated) end
end

local names = {}
for index = rest, #ARGV, 2 do
  local name = ARGV[index]
  if names[1] and own_of(name) ~= own_of(names[1]) then
    hear(names)
    names = {}
  end
  names[#names + 1] = name
  keys[#keys + 1] = ARGV[index + 1]
end
hear(names)
if redis.call('EXISTS', unpack(keys)) > 0 then
  for index, key in ipairs(keys) do
    if redis.call('EXISTS', key) == 1 then words[index] = 'given' end
  end
end
return {'done', unpack(words)}
