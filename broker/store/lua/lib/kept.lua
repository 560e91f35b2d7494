-- How long a settled item of a spec revision is kept, for acts on items of many revisions. Stands before `settle`.
-- Needs: specs.
local keep_ms
local kept_by = {}
local function keep_as(revision)
  if not kept_by[revision] then
    local spec = redis.call('HGET', specs, revision)
    kept_by[revision] = spec and cjson.decode(spec).keep_ms or KEEP_MS
  end
  keep_ms = kept_by[revision]
end
