-- A machine that fails on one node after another: its stream is paused, so that no boots are wasted on it. What counts
-- is one revision's faults of its own on several nodes, with no claim since.
-- Needs: stream, event, ring, pausing.
local function note_machine_fault(machine, machine_revision, node, verdict, said)
  local kept = cjson.decode(redis.call('HGET', stream, 'faulty') or '{}')
  local nodes = kept.revision == machine_revision and kept.nodes or {}
  for _, each in ipairs(nodes) do
    if each == node then return end
  end
  nodes[#nodes + 1] = node
  redis.call('HSET', stream, 'faulty', cjson.encode({revision = machine_revision, nodes = nodes}))
  if #nodes >= FAULTY_NODES and redis.call('HEXISTS', stream, 'paused') == 0 then
    pause_stream('machine_faulty', string.format('vms of machine %s, revision %.0f, failed on %s and no other has claimed '
      .. 'since; the last: %s: %s', machine, machine_revision, table.concat(nodes, ' and '), verdict, said))
  end
end
