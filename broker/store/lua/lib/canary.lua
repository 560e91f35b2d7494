-- The canary: until a vm of an item's spec revision and its machine's revision has claimed, few are out at once.
-- The stream keeps `proven:REVISION`, the machine's revision that has claimed, and `canaries:REVISION`, that of those
-- that were given out with their dispatches; one is out until its vm's record says that it is over.
-- Needs: vms stream, event.
local proven = {}
local function is_proven(revision, machine_revision)
  proven[revision] = proven[revision] or tonumber(redis.call('HGET', stream, 'proven:' .. revision)) or 0
  return proven[revision] >= machine_revision
end

local function canaries_out(revision, machine_revision)
  local out = {}
  local kept = redis.call('HGET', stream, 'canaries:' .. revision) or ''
  local of, ids = string.match(kept, '^(%d+) (.*)$')
  if tonumber(of) ~= machine_revision then return out end
  for id in string.gmatch(ids, '%S+') do
    local is = redis.call('HMGET', vms .. id, 'item', 'over')
    if is[1] and not is[2] then out[#out + 1] = id end
  end
  return out
end

-- A vm of these revisions has claimed. Those of a later revision of the machine stay out: it says nothing of that one.
local are_faults_forgotten = false
local function prove(revision, machine_revision)
  if not are_faults_forgotten then
    are_faults_forgotten = true
    redis.call('HDEL', stream, 'faulty')
  end
  if is_proven(revision, machine_revision) then return end
  proven[revision] = machine_revision
  redis.call('HSET', stream, 'proven:' .. revision, machine_revision)
  local kept = redis.call('HGET', stream, 'canaries:' .. revision)
  if kept and tonumber(string.match(kept, '^%d+')) <= machine_revision then
    redis.call('HDEL', stream, 'canaries:' .. revision)
  end
  ring_ready()
end
