-- Groups: jobs whose progress comes from their children. model/groups.py has the rules.
--
-- The hash `children:<group>` has the last contributions of a group's children: the rest of a
-- child's id → attempt, weight (thousandths), gained (hundredths of a percent), status, and the
-- health of a running child unless it is ok. It is also filled before the group is declared. The
-- record of a declared group has `children`, as clients see it, and `sums`: queued, running,
-- succeeded, failed, cancelled, over all contributions weight, weight × gained, and the weight of
-- the ended ones, and how many are stalled and lost. All keys are in one shard (keys.py), so their
-- names are computed here.

local PREFIX = string.sub(FEED, 1, -5) -- including its colon
local PLACES = {queued = 1, running = 2, succeeded = 3, failed = 4, cancelled = 5}
local SILENT = {stalled = 9, lost = 10}
local NO_SUMS = '0 0 0 0 0 0 0 0 0 0'

local function children_key(group)
  return PREFIX .. 'children:' .. group
end

-- The group that a job is a child of, and its name there. A node's own jobs have none.
local function group_of(job)
  if string.byte(job) == 33 then return nil end
  return string.match(job, '^(.+)/([^/]+)$')
end

local function expected_of(children)
  return string.match(children, '^{"expected":([%d.]+)')
end

local function contribution_of(record)
  local gained = RANK[record.status] == 2 and 10000
    or record.percent and math.floor(record.percent * 100 + 0.5) or 0
  local weight = record.weight and math.floor(record.weight * 1000 + 0.5) or 1000
  local silent = record.status == 'running' and SILENT[record.health]
  return record.attempt .. ' ' .. whole(weight) .. ' ' .. whole(gained) .. ' ' .. record.status
    .. (silent and ' ' .. record.health or '')
end

local function add(sums, contribution, sign)
  local weight, gained, status, health = string.match(contribution, '^%d+ (%d+) (%d+) (%l+) ?(%l*)$')
  local place, silent = PLACES[status], SILENT[health]
  sums[place] = sums[place] + sign
  sums[6] = sums[6] + sign * weight
  sums[7] = sums[7] + sign * weight * gained
  if place > 2 then sums[8] = sums[8] + sign * weight end
  if silent then sums[silent] = sums[silent] + sign end
end

local function parsed(text)
  local sums = {}
  for number in string.gmatch(text, '%d+') do sums[#sums + 1] = tonumber(number) end
  return sums
end

local function written(sums)
  return string.format('%d %d %d %d %d %.0f %.0f %.0f %d %d', unpack(sums))
end

local function replaced(text, old, new)
  local sums = parsed(text)
  if old then add(sums, old, -1) end
  if new then add(sums, new, 1) end
  return sums
end

-- The sums of the children's contributions; with `live`, only of those that have not ended, and
-- the names of the others.
local function total_of(group, live)
  local sums, ended = parsed(NO_SUMS), {}
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

-- The stored rate: since, at, percent, rate. And the eta, false if there is none.
local function seen(pace, percent, at)
  if not pace then return at .. ' ' .. at .. ' ' .. percent .. ' 0', false end
  local since, rose, risen, rate = string.match(pace, '(%S+) (%S+) (%S+) (%S+)')
  local took, seen_for = at - rose, rose - since
  local gained = percent - risen
  if gained > 0 and took > 0 then
    local latest = gained / took
    local window = math.min(math.max(ETA_FIRST_WINDOW, seen_for * ETA_WINDOW_SHARE), seen_for)
    rate = string.format('%.6g', rate + (latest - rate) * (took / (took + window)))
    pace = since .. ' ' .. at .. ' ' .. percent .. ' ' .. rate
    risen, took = percent, 0
  end

  local left = 100 - risen
  if rate == '0' or left <= 0 or at - since < ETA_WARM_UP then return pace, false end
  local eta = string.format('%.1f', left / rate - took)
  return pace, eta - 0 > 0 and eta
end

-- That of the healthiest running child, or `idle` if none is running.
local function health_of(status, sums, idle)
  if status ~= 'running' then return 'ok' end
  if sums[2] == 0 then return idle or 'ok' end
  if sums[9] + sums[10] < sums[2] then return 'ok' end
  return sums[9] > 0 and 'stalled' or 'lost'
end

-- The fields that the children decide, for a group with this status and percentage: `children`,
-- status, percentage and health. `idle` is the health if no child is running.
local function figures(status, percent, sums, expected, idle)
  local children = string.format(
    '{"expected":%s,"queued":%d,"running":%d,"succeeded":%d,"failed":%d,"cancelled":%d}',
    expected or 'null', sums[1], sums[2], sums[3], sums[4], sums[5])
  local due = expected and math.floor(expected * 1000 + 0.5)
  if status == 'queued' and sums[2] + sums[3] + sums[4] + sums[5] > 0 then status = 'running' end
  if RANK[status] < 2 and due and sums[8] >= due and sums[1] + sums[2] == 0 then
    status = sums[4] > 0 and 'failed' or sums[5] > 0 and 'cancelled' or 'succeeded'
  end
  local all = due and math.max(due, sums[6]) or 0
  if status == 'succeeded' then
    percent = '100'
  elseif all > 0 then
    local mean = string.match(string.format('%.1f', math.floor(sums[7] / (all * 10)) / 10), '^(.-)%.?0*$')
    if not percent or mean - percent > 0 then percent = mean end
  end
  return children, status, percent, health_of(status, sums, idle)
end

-- Add the fields that the children decide to the changes `new` of a group's record. Returns
-- whether this changes its state.
local function tally(state, new, sums, expected, at, idle)
  local before = new.status or state.status
  local percent = new.percent
  if percent == nil then percent = state.percent end
  local children, status, health
  children, status, percent, health = figures(before, percent, sums, expected, idle)
  local changed = children ~= state.children or status ~= state.status
    or (percent or -1) - (state.percent or -1) ~= 0
    or state.done or state.total or state.health ~= health
  new.sums, new.children, new.status, new.percent = written(sums), children, status, percent
  new.done, new.total, new.health = false, false, health
  if before == 'queued' and status ~= before then new.started_at = at end
  if RANK[status] == 2 and RANK[before] < 2 then
    new.finished_at = at
    if sums[4] > 0 then new.error = whole(sums[4]) .. ' of ' .. whole(sums[3] + sums[4] + sums[5]) .. ' failed' end
  end
  return changed
end

-- Add the time and the rate to changes that are an event.
local function paced(state, new, at)
  new.eta, new.updated_at = false, at
  if new.percent and (new.status or state.status) == 'running' then
    new.pace, new.eta = seen(new.pace or state.pace, new.percent, at)
    if (new.health or state.health) ~= 'ok' then new.eta = false end
  end
  return new
end

-- The record of a job that begins another attempt, without the fields of the attempt before.
local function begun(record, attempt, status, at)
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

-- Open the next attempt of an ended group, because one of its children has begun another attempt.
local function reopened(record, sums, at)
  local blank = begun(record, record.attempt + 1, 'running', at)
  blank.run, blank.opened_at, blank.accepts = record.run, at, record.accepts
  local new = {}
  tally(blank, new, sums, expected_of(record.children), at)
  apply(blank, paced(blank, new, at))
  return replace(record, blank)
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

-- Whether a record must not take a request with this id: the attempt has had it, or it has a cancel
-- that was not refused.
local function has_request(record, id)
  return record.request_id == id
    or (record.request_verb == 'cancel' and record.request_is ~= 'refused')
    or string.find(' ' .. (record.request_ids or '') .. ' ', ' ' .. id .. ' ', 1, true)
end

local function takes(record, verb)
  return string.find(record.accepts or '', '"' .. verb .. '"', 1, true)
end

-- Copy everything that a record has about requests.
local function copy_request(from, to)
  to.request, to.request_ids = from.request, from.request_ids
  to.request_id, to.request_verb = from.request_id, from.request_verb
  to.request_is, to.request_alone = from.request_is, from.request_alone
end

local REQUEST = {'v', 'status', 'request', 'request_id', 'request_verb', 'request_is', 'request_alone'}

-- When a request was stored. Nothing in its strings looks like this: their quotes are escaped.
local function stored_at(request)
  return tonumber(string.match(request or '', '^.*,"at":([%d.]+)') or 0)
end

-- Send a running job the request of a group above it, if it has not got it: a cancel, or else that
-- of the innermost group. A request of the job's own that is newer stays.
local function send_inherited_request(job, record)
  if record.status ~= 'running' or not record.accepts then return end
  local group, found, own_at = group_of(job), nil, stored_at(record.request)
  for _ = 1, MAX_GROUP_LEVELS do
    if not group then break end
    local known = redis.pcall('HMGET', PREFIX .. 'last:' .. group, unpack(REQUEST))
    local _, status, request, id, verb, stage, alone = unpack(known, 1, 7)
    if not known.err and known[1] == VERSION and (RANK[status] or 2) < 2
      and request and stage ~= 'refused' and not alone
      and (LASTING_VERBS[verb] or tonumber(record.started_at or 0) <= stored_at(request))
      and takes(record, verb) and stored_at(request) > own_at
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
local function change(group, known, old, new)
  local _, _, text, status, percent, children, health = unpack(known, 1, 7)
  local sums = replaced(text, old, new)
  local final = RANK[status] == 2
  local reopens = final and old and new
    and string.match(old, '^%d+') ~= string.match(new, '^%d+')
  local last = PREFIX .. 'last:' .. group
  local idle = old and not new and health -- the child was dropped
  local silence = false -- whether only the health gets worse
  if not reopens then
    local seen_as, now_is, mean, health_is =
      figures(status, percent or nil, sums, expected_of(children), idle)
    local same = seen_as == children and now_is == status and (mean or -1) - (percent or -1) == 0
    if final or (same and health_is == health) then
      redis.call('HSET', last, 'sums', written(sums))
      return nil
    end
    silence = same and health_is ~= 'ok'
  end
  local record, unreadable = read(last)
  if unreadable or not record then return nil end
  local at = record.updated_at - NOW > 0 and record.updated_at or now
  local changes = {}
  if reopens then
    changes = reopened(record, sums, at)
  else
    tally(record, changes, sums, expected_of(children), at, idle)
    if silence then
      changes.eta = false -- no worker has reported: `updated_at` stays
    else
      paced(record, changes, at)
    end
  end
  changes.reported_at = now
  local number = commit(group, last, PREFIX .. 'log:' .. group, record, changes)
  if not number then return nil end
  redis.call('ZADD', RECENT, number, group)
  send_inherited_request(group, record)
  return record
end

-- The fields of a group's record that `change` needs; nil if the group is not declared.
local function declared(group)
  local known = redis.pcall('HMGET', PREFIX .. 'last:' .. group,
                            'v', 'epoch', 'sums', 'status', 'percent', 'children', 'health')
  if known.err or known[1] ~= VERSION or not known[3] or not known[6] or not RANK[known[4]] then
    return nil
  end
  return known
end

-- Store a job's contribution to the group above it. Returns the group, its fields if it is
-- declared, and the old and the new contribution; nil if nothing has changed. If it was `silence`
-- that has changed the job, only a contribution that is counted already changes.
local function remember(job, record, silence)
  local group, name = group_of(job)
  if not group then return nil end
  local key, new = children_key(group), contribution_of(record)
  local old = redis.pcall('HGET', key, name)
  if old == new or type(old) == 'table' then return nil end -- a table is an error: foreign data
  local known = declared(group)
  if not old then
    if silence then return nil end
    local most = known and MAX_CHILDREN or MAX_EARLY_CHILDREN
    if redis.call('HLEN', key) >= most then return nil end
  end
  redis.call('HSET', key, name, new)
  if not old then redis.call('PEXPIRE', key, whole(CHILDREN_KEPT * 1000)) end
  return group, known, old or nil, new
end

-- Count the contribution of a changed job in all groups above it.
local function contribute(job, record, silence)
  for _ = 1, MAX_GROUP_LEVELS do
    local group, known, old, new = remember(job, record, silence)
    if not known then return end
    record = change(group, known, old, new)
    if not record then return end
    job = group
  end
end

-- Compute the sums of a group again, and the changes in the groups above it.
local function recount(group)
  local known = declared(group)
  if not known then return end
  known[3] = written((total_of(group)))
  local record = change(group, known)
  if record then contribute(group, record) end
end

-- Reset the contributions for a new attempt of a group: keep only children that have not ended.
local function restart(group, ended)
  for i = 1, #ended, 1000 do
    redis.call('HDEL', children_key(group), unpack(ended, i, math.min(i + 999, #ended)))
  end
end

-- Handle a dropped job: its contribution stays in a declared group if it had ended.
local function withdraw(job)
  redis.call('DEL', children_key(job))
  local group, name = group_of(job)
  if not group then return end
  local key = children_key(group)
  local old = redis.pcall('HGET', key, name)
  if not old or type(old) == 'table' then return end
  local known = declared(group)
  local rest, status = string.match(old, '^%d+( .- (%l+).*)$')
  if known and RANK[status] == 2 then
    redis.call('HSET', key, name, '0' .. rest) -- any later report is another attempt
    return
  end
  redis.call('HDEL', key, name)
  local record = known and change(group, known, old, nil)
  if record then contribute(group, record) end
end
