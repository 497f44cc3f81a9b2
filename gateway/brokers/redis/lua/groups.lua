-- Groups: jobs whose progress comes from their children. model/groups.py has the rules.
--
-- The hash `children:<group>` has the last contributions of a group's children: the rest of a
-- child's id → attempt, weight (thousandths), progress (hundredths of a percent), status, and the
-- health of a running child unless it is ok. It is also filled before the group is declared. The
-- record of a declared group has `children`, as clients see it, and `sums`: queued, running,
-- succeeded, failed, cancelled, over all contributions weight, weight × progress, and the weight of
-- the ended ones, and how many are stalled and lost. All keys are in one shard (keys.py), so their
-- names are computed here.

local PREFIX = string.sub(FEED, 1, -5) -- including its colon
local INDEX_OF_HEALTH = {stalled = 9, lost = 10}
local NO_SUMS = '0 0 0 0 0 0 0 0 0 0'

local function children_key(group)
  return PREFIX .. 'children:' .. group
end

-- Returns the group of a job, and the job's name in it. A node's own jobs have none.
local function group_of(job)
  if string.byte(job) == 33 then return nil end
  return string.match(job, '^(.+)/([^/]+)$')
end

local function expected_of(children)
  return string.match(children, '^{"expected":([%d.]+)')
end

local function contribution_of(record)
  local progress = RANK[record.status] == 2 and 10000
    or record.percent and math.floor(record.percent * 100 + 0.5) or 0
  local weight = record.weight and math.floor(record.weight * 1000 + 0.5) or 1000
  local health_index = record.status == 'running' and INDEX_OF_HEALTH[record.health]
  return record.attempt .. ' ' .. whole(weight) .. ' ' .. whole(progress) .. ' ' .. record.status
    .. (health_index and ' ' .. record.health or '')
end

local function add(sums, contribution, sign)
  local weight, progress, status, health = string.match(contribution, '^%d+ (%d+) (%d+) (%l+) ?(%l*)$')
  local index, health_index = INDEX_OF_STATUS[status], INDEX_OF_HEALTH[health]
  sums[index] = sums[index] + sign
  sums[6] = sums[6] + sign * weight
  sums[7] = sums[7] + sign * weight * progress
  if index > 2 then sums[8] = sums[8] + sign * weight end
  if health_index then sums[health_index] = sums[health_index] + sign end
end

local function parse_sums(text)
  local sums = {}
  for number in string.gmatch(text, '%d+') do sums[#sums + 1] = tonumber(number) end
  return sums
end

local function format_sums(sums)
  return string.format('%d %d %d %d %d %.0f %.0f %.0f %d %d', unpack(sums))
end

local function with_change(text, old, new)
  local sums = parse_sums(text)
  if old then add(sums, old, -1) end
  if new then add(sums, new, 1) end
  return sums
end

-- Returns the sums of the children's contributions. With `live`, only of the children that have not
-- ended, and also the names of the others.
local function total_of(group, live)
  local sums, ended = parse_sums(NO_SUMS), {}
  local flat = redis.pcall('HGETALL', children_key(group))
  if flat.err then return sums, ended end -- foreign data
  for i = 1, #flat, 2 do
    local status = string.match(flat[i + 1], '(%l+)')
    if live and RANK[status] == 2 then
      ended[#ended + 1] = flat[i]
    else
      add(sums, flat[i + 1], 1)
    end
  end
  return sums, ended
end

-- Returns the rate as it is stored (since, at, percent, rate), and the eta (false: there is none).
local function observe_rate(stored_rate, percent, at)
  if not stored_rate then return at .. ' ' .. at .. ' ' .. percent .. ' 0', false end
  local since, rose, risen, rate = string.match(stored_rate, '(%S+) (%S+) (%S+) (%S+)')
  local took, seen_for = at - rose, rose - since
  local gained = percent - risen
  if gained > 0 and took > 0 then
    local latest = gained / took
    local window = math.min(math.max(ETA_FIRST_WINDOW, seen_for * ETA_WINDOW_SHARE), seen_for)
    rate = string.format('%.6g', rate + (latest - rate) * (took / (took + window)))
    stored_rate = since .. ' ' .. at .. ' ' .. percent .. ' ' .. rate
    risen, took = percent, 0
  end

  local left = 100 - risen
  if rate == '0' or left <= 0 or at - since < ETA_WARM_UP then return stored_rate, false end
  local eta = string.format('%.1f', left / rate - took)
  return stored_rate, eta - 0 > 0 and eta
end

-- Returns the health of the healthiest running child, or `idle_health` if none is running.
local function health_of(status, sums, idle_health)
  if status ~= 'running' then return 'ok' end
  if sums[2] == 0 then return idle_health or 'ok' end
  if sums[9] + sums[10] < sums[2] then return 'ok' end
  return sums[9] > 0 and 'stalled' or 'lost'
end

-- Returns the fields that the children decide, for a group with this status and percentage:
-- `children`, status, percentage and health. `idle_health` is the health if no child is running.
local function fields_from_children(status, percent, sums, expected, idle_health)
  local children = string.format(
    '{"expected":%s,"queued":%d,"running":%d,"succeeded":%d,"failed":%d,"cancelled":%d}',
    expected or 'null', sums[1], sums[2], sums[3], sums[4], sums[5])
  local expected_weight = expected and math.floor(expected * 1000 + 0.5)
  if status == 'queued' and sums[2] + sums[3] + sums[4] + sums[5] > 0 then status = 'running' end
  if RANK[status] < 2 and expected_weight and sums[8] >= expected_weight and sums[1] + sums[2] == 0 then
    status = sums[4] > 0 and 'failed' or sums[5] > 0 and 'cancelled' or 'succeeded'
  end
  local full_weight = expected_weight and math.max(expected_weight, sums[6]) or 0
  if status == 'succeeded' then
    percent = '100'
  elseif full_weight > 0 then
    local mean = string.match(string.format('%.1f', math.floor(sums[7] / (full_weight * 10)) / 10), '^(.-)%.?0*$')
    if not percent or mean - percent > 0 then percent = mean end
  end
  return children, status, percent, health_of(status, sums, idle_health)
end

-- Add the fields that the children decide to the changes `new` of a group's record. Returns
-- whether this changes its state.
local function add_group_fields(state, new, sums, expected, at, idle_health)
  local before = new.status or state.status
  local percent = new.percent
  if percent == nil then percent = state.percent end
  local children, status, health
  children, status, percent, health = fields_from_children(before, percent, sums, expected, idle_health)
  local changed = children ~= state.children or status ~= state.status
    or (percent or -1) - (state.percent or -1) ~= 0
    or state.done or state.total or state.health ~= health
  new.sums, new.children, new.status, new.percent = format_sums(sums), children, status, percent
  new.done, new.total, new.health = false, false, health
  if before == 'queued' and status ~= before then new.started_at = at end
  if RANK[status] == 2 and RANK[before] < 2 then
    new.finished_at = at
    if sums[4] > 0 then new.error = whole(sums[4]) .. ' of ' .. whole(sums[3] + sums[4] + sums[5]) .. ' failed' end
  end
  return changed
end

-- Add the time, the rate and the eta to changes that are an event.
local function with_eta(state, new, at)
  new.eta, new.updated_at = false, at
  if new.percent and (new.status or state.status) == 'running' then
    new.pace, new.eta = observe_rate(new.pace or state.pace, new.percent, at)
    if (new.health or state.health) ~= 'ok' then new.eta = false end
  end
  return new
end

-- Returns the record of a job that starts an attempt, without the fields of the previous attempt.
local function first_record(record, attempt, status, at)
  return {
    v = record.v,
    epoch = record.epoch,
    seq = record.seq,
    wakes_at = record.wakes_at,
    status = status,
    attempt = whole(attempt),
    health = 'ok',
    percent = status == 'succeeded' and '100' or nil,
    children = record.children,
    weight = record.weight,
    lease = record.lease or DEFAULT_LEASE,
    created_at = record.created_at or at,
    started_at = status ~= 'queued' and at or nil,
    updated_at = at,
    finished_at = RANK[status] == 2 and at or nil,
  }
end

-- Start the next attempt of an ended group, because one of its children has started another attempt.
local function next_attempt(record, sums, at)
  local cleared = first_record(record, record.attempt + 1, 'running', at)
  cleared.run, cleared.opened_at, cleared.accepts = record.run, at, record.accepts
  local new = {}
  add_group_fields(cleared, new, sums, expected_of(record.children), at)
  apply(cleared, with_eta(cleared, new, at))
  return replace(record, cleared)
end

-- The ids of the requests that the attempt has had, the newest last; false if there are none.
local function ids_of_requests(record)
  local ids = {}
  for id in string.gmatch((record.request_ids or '') .. ' ' .. (record.request_id or ''), '%S+') do
    ids[#ids + 1] = id
  end
  return #ids > 0 and table.concat(ids, ' ', math.max(1, #ids - MAX_EARLIER_REQUESTS + 1))
end

-- The changes that store a request in a record. `text` is its JSON before `at`.
local function request_changes(record, text, id, verb, alone, at)
  return {
    request = text .. ',"at":' .. at .. '}', request_ids = ids_of_requests(record),
    request_id = id, request_verb = verb, request_is = 'open', request_alone = alone or false,
  }
end

-- Whether a request with this id must not be stored in a record: the attempt has had it, or it has a
-- cancel that was not refused.
local function has_request(record, id)
  return record.request_id == id
    or (record.request_verb == 'cancel' and record.request_is ~= 'refused')
    or string.find(' ' .. (record.request_ids or '') .. ' ', ' ' .. id .. ' ', 1, true)
end

local function accepts_verb(record, verb)
  return string.find(record.accepts or '', '"' .. verb .. '"', 1, true)
end

-- Copy everything that a record has about requests.
local function copy_request(from, to)
  to.request, to.request_ids = from.request, from.request_ids
  to.request_id, to.request_verb = from.request_id, from.request_verb
  to.request_is, to.request_alone = from.request_is, from.request_alone
end

local REQUEST = {'v', 'status', 'request', 'request_id', 'request_verb', 'request_is', 'request_alone'}

-- Returns when a request was stored. No string in the request matches, because quotes are escaped.
local function stored_at(request)
  return tonumber(string.match(request or '', '^.*,"at":([%d.]+)') or 0)
end

-- Send a running job the request of a group above it, if the job has not received it: a cancel, or
-- else the request of the innermost group. A newer request of the job itself stays.
local function send_inherited_request(job, record)
  if record.status ~= 'running' or not record.accepts then return end
  local group, found, own_at = group_of(job), nil, stored_at(record.request)
  for _ = 1, MAX_GROUP_LEVELS do
    if not group then break end
    local fields = redis.pcall('HMGET', PREFIX .. 'last:' .. group, unpack(REQUEST))
    local _, status, request, id, verb, stage, alone = unpack(fields, 1, 7)
    if not fields.err and fields[1] == VERSION and (RANK[status] or 2) < 2
      and request and stage ~= 'refused' and not alone
      and (LASTING_VERBS[verb] or tonumber(record.started_at or 0) < stored_at(request))
      and accepts_verb(record, verb) and stored_at(request) > own_at
      and (not found or (verb == 'cancel' and found.verb ~= verb)) then
      found = {text = request, id = id, verb = verb}
    end
    group = group_of(group)
  end
  if not found or has_request(record, found.id) then return end
  local text = string.gsub(found.text, ',"seen_at":[%d.]+}$', '}')
  text = string.match(text, '^(.*),"at":[%d.]+}$')
  local at = record.updated_at - NOW > 0 and record.updated_at or now
  local last, log = PREFIX .. 'last:' .. job, PREFIX .. 'log:' .. job
  local number = text and commit(job, last, log, record, request_changes(record, text, found.id, found.verb, nil, at))
  if number then redis.call('ZADD', RECENT, number, job) end
end

-- Update a group after a child's contribution has changed from `old` to `new` (nil: none).
-- Returns the group's record if that has made an event.
local function update_group(group, fields, old, new)
  local _, _, text, status, percent, children, health = unpack(fields, 1, 7)
  local sums = with_change(text, old, new)
  local final = RANK[status] == 2
  local reopens = final and old and new
    and string.match(old, '^%d+') ~= string.match(new, '^%d+')
  local last = PREFIX .. 'last:' .. group
  local idle_health = old and not new and health -- the child was dropped
  local by_silence = false -- whether only the health gets worse
  if not reopens then
    local seen_as, now_is, mean, health_is =
      fields_from_children(status, percent or nil, sums, expected_of(children), idle_health)
    local same = seen_as == children and now_is == status and (mean or -1) - (percent or -1) == 0
    if final or (same and health_is == health) then
      redis.call('HSET', last, 'sums', format_sums(sums))
      return nil
    end
    by_silence = same and health_is ~= 'ok'
  end
  local record, unreadable = read(last)
  if unreadable or not record then return nil end
  local at = record.updated_at - NOW > 0 and record.updated_at or now
  local changes = {}
  if reopens then
    changes = next_attempt(record, sums, at)
  else
    add_group_fields(record, changes, sums, expected_of(children), at, idle_health)
    if by_silence then
      changes.eta = false -- no worker has reported: `updated_at` stays
    else
      with_eta(record, changes, at)
    end
  end
  changes.reported_at = now
  local number = commit(group, last, PREFIX .. 'log:' .. group, record, changes)
  if not number then return nil end
  redis.call('ZADD', RECENT, number, group)
  send_inherited_request(group, record)
  return record
end

-- Returns the fields of a group's record that `update_group` needs; nil if the group is not declared.
local function declared(group)
  local fields = redis.pcall('HMGET', PREFIX .. 'last:' .. group,
                            'v', 'epoch', 'sums', 'status', 'percent', 'children', 'health')
  if fields.err or fields[1] ~= VERSION or not fields[3] or not fields[6] or not RANK[fields[4]] then
    return nil
  end
  return fields
end

-- Store a job's contribution to the group above it. Returns the group, its fields if it is
-- declared, and the old and the new contribution; nil if nothing has changed. With `by_silence` the
-- job has changed without a report; then only a contribution that is counted already changes.
local function store_contribution(job, record, by_silence)
  local group, name = group_of(job)
  if not group then return nil end
  local key, new = children_key(group), contribution_of(record)
  local old = redis.pcall('HGET', key, name)
  if old == new or type(old) == 'table' then return nil end -- a table is an error: foreign data
  local fields = declared(group)
  if not old then
    if by_silence then return nil end
    local maximum = fields and MAX_CHILDREN or MAX_EARLY_CHILDREN
    if redis.call('HLEN', key) >= maximum then return nil end
  end
  redis.call('HSET', key, name, new)
  if not old then redis.call('PEXPIRE', key, whole(CHILDREN_KEPT * 1000)) end
  return group, fields, old or nil, new
end

-- Count the contribution of a changed job in all groups above it.
local function contribute(job, record, by_silence)
  for _ = 1, MAX_GROUP_LEVELS do
    local group, fields, old, new = store_contribution(job, record, by_silence)
    if not fields then return end
    record = update_group(group, fields, old, new)
    if not record then return end
    job = group
  end
end

-- Compute the sums of a group again, and the changes in the groups above it.
local function recount(group)
  local fields = declared(group)
  if not fields then return end
  fields[3] = format_sums((total_of(group)))
  local record = update_group(group, fields)
  if record then contribute(group, record) end
end

-- Reset the contributions for a new attempt of a group: keep only children that have not ended.
local function drop_ended_contributions(group, ended)
  for i = 1, #ended, 1000 do
    redis.call('HDEL', children_key(group), unpack(ended, i, math.min(i + 999, #ended)))
  end
end

-- Handle a dropped job: its contribution stays in a declared group if it had ended.
local function drop_contribution(job)
  redis.call('DEL', children_key(job))
  local group, name = group_of(job)
  if not group then return end
  local key = children_key(group)
  local old = redis.pcall('HGET', key, name)
  if not old or type(old) == 'table' then return end
  local fields = declared(group)
  local rest, status = string.match(old, '^%d+( .- (%l+).*)$')
  if fields and RANK[status] == 2 then
    redis.call('HSET', key, name, '0' .. rest) -- any later report is another attempt
    return
  end
  redis.call('HDEL', key, name)
  local record = fields and update_group(group, fields, old, nil)
  if record then contribute(group, record) end
end
