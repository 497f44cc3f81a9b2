-- Apply one update to a job's record. model/reducer.py has the rules; the functions here
-- are in the same order, and a property test compares both.
--
-- KEYS  5 last:<job>  6 log:<job>
-- ARGV  2 job, then pairs: a field and its value as plain text, or `clear` and a field
--
-- Returns epoch, seq and attempt after the update, the reason if there is no event (else ''), and
-- the request that the worker has not acknowledged (else '').

local JOB, LAST, LOG = ARGV[2], KEYS[5], KEYS[6]

local REPLACED = {'unit', 'phase', 'message', 'error', 'data', 'accepts'}
local COMPARED = {'lease', 'weight', 'total', 'done', 'percent'}

-- The fields of the update: text, or false if the field is cleared.
local update = {}
for i = 3, #ARGV, 2 do
  if ARGV[i] == 'clear' then update[ARGV[i + 1]] = false else update[ARGV[i]] = ARGV[i + 1] end
end

local ended_children = {} -- the children that a new attempt of a group does not count

local function normalise(text)
  if #text < 16 and string.find(text, '^[1-9]%d*$') then return text end
  local number = tonumber(text)
  if number == 0 then return '0' end -- instead of -0
  if number ~= math.floor(number) then
    text = string.format('%.14g', number)
    number = tonumber(text)
    if number ~= math.floor(number) then return text end
  end
  return whole(number)
end

-- A percentage with two decimal places, in its shortest form. Less than 100 is never rounded to 100.
local function rounded(number)
  if number - 100 < 0 then number = math.min(number, ALMOST_100) end
  return string.match(string.format('%.2f', number), '^(.-)%.?0*$')
end

-- A weight with three decimal places. A weight of 1 is not stored.
local function thousandths(text)
  return string.match(string.format('%.3f', text), '^(.-)%.?0*$')
end

-- Arithmetic parses a text once, `tonumber` twice; each time costs as much as a short function,
-- and this runs for every update of every job.
local function higher(old, new)
  return new ~= old and new - old > 0 and new or old
end

-- The start time of the attempt that this update starts.
local function begin_time(at, earliest)
  return update.age and string.format('%.3f', math.max(at - update.age, earliest)) or at
end

local function begins_phase(state)
  return update.phase ~= nil and update.phase ~= (state.phase or false)
end

local function is_part(name)
  return string.sub(name, 1, 5) == 'part:'
end

-- Parts are fields of the record: `part:<name>`, and `counted`, their sum, if there are any.
local function too_many_parts(state)
  if not (update.part and update.done and state.counted) then return false end
  if state['part:' .. update.part] or begins_phase(state) then return false end
  local n = 0
  for name in pairs(state) do
    if is_part(name) then n = n + 1 end
  end
  return n >= MAX_PARTS
end

-- Returns the changes that remove all parts.
local function part_removals(state)
  local extra = {}
  for name in pairs(state) do
    if name == 'counted' or is_part(name) then extra[name] = false end
  end
  return extra
end

-- Returns `done` after the update. Changes of parts are added to `extra`.
local function count(state, extra)
  local restarts = not update.done or not state.done or begins_phase(state)
  if restarts and state.counted then
    for name, value in pairs(part_removals(state)) do extra[name] = value end
  end
  if not update.done then return false end
  local reported = normalise(update.done)
  local counted = not restarts and state.counted
  if not update.part and not counted then
    return restarts and reported or higher(state.done, reported)
  end
  local name = 'part:' .. (update.part or '')
  local old = counted and state[name] or '0'
  if not counted then
    counted = '0'
    -- The count of a restored record may come from parts, which will report again.
    if not restarts and not state.restored and state.done ~= '0' then
      extra['part:'], counted = state.done, state.done
    end
  end
  if reported - old > 0 then
    local sum = counted - old + reported
    counted = normalise(string.format('%.17g', math.min(sum, MAX_NUMBER)))
    extra[name] = reported
  end
  if counted ~= '0' then extra.counted = counted end
  return restarts and counted or higher(state.done, counted)
end

-- Returns the percentage after the update; false if it is unknown. A stored rate without a percentage
-- means that it stays unknown.
local function percent(state, new)
  if (new.status or state.status) == 'succeeded' then return '100' end
  local reported = update.percent
  if reported == false or (state.pace and not state.percent) then return false end
  if not reported and (new.done ~= nil or new.total ~= nil) then
    local done, total = new.done, new.total
    if done == nil then done = state.done end
    if total == nil then total = state.total end
    if done and total and tonumber(total) ~= 0 then reported = 100 * done / total end
  end
  return reported and higher(state.percent or '0', rounded(reported)) or state.percent
end

-- Whether the count exceeds the total. Then the total is cleared, because one of them must be wrong.
local function exceeds_total(state, new)
  local done, total = new.done, new.total
  if done == nil then done = state.done end
  if total == nil then total = state.total end
  return done and total and done - total > 0
end

-- Store the worker's acknowledgement of a request, and its refusal, if there is one. Returns whether
-- this changes the state.
local function acknowledge(state, new, at)
  if not update.ack or update.ack ~= state.request_id or state.request_is == 'refused' then
    return false
  end
  local text, stage = string.sub(state.request, 1, -2), 'seen'
  if state.request_is == 'open' then text = text .. ',"seen_at":' .. at end
  if update.refused then text, stage = text .. text_field(',"refused":', update.refused), 'refused' end
  if stage == state.request_is then return false end
  new.request, new.request_is = text .. '}', stage
  return true
end

-- Returns the changes of the state (nil if there are none), and the changes of other fields.
local function apply_fields(state, at)
  local new, extra = {health = 'ok'}, {}
  local changed = not state.sums and state.health ~= 'ok' -- a group's health: see add_group_fields
  for i = 1, #REPLACED do
    local name = REPLACED[i]
    local value = update[name]
    if value ~= nil and value ~= (state[name] or false) then new[name], changed = value, true end
  end
  changed = acknowledge(state, new, at) or changed
  if update.lease ~= nil then new.lease = update.lease and normalise(update.lease) or DEFAULT_LEASE end

  if update.weight ~= nil then
    new.weight = update.weight and thousandths(update.weight)
    if new.weight == '1' then new.weight = false end
  end

  local progress = update.percent or update.done
  local status = update.status or (progress and 'running') or state.status
  if RANK[status] > RANK[state.status] then
    new.status, changed = status, true
    if state.status == 'queued' then new.started_at = begin_time(at, state.created_at) end
    if RANK[status] == 2 then new.finished_at = at end
  end
  if update.total ~= nil then new.total = update.total and normalise(update.total) end
  if update.done ~= nil then new.done = count(state, extra) end
  if exceeds_total(state, new) then new.total = false end
  new.percent = percent(state, new)
  if update.children ~= nil or state.sums then
    local expected = state.children and expected_of(state.children)
    if update.children ~= nil then expected = update.children and thousandths(update.children) end
    local sums = state.sums and parse_sums(state.sums) or total_of(JOB)
    if not state.sums then extra = part_removals(state) end
    changed = add_group_fields(state, new, sums, expected, at) or changed
  end

  for i = 1, #COMPARED do
    local old, value = state[COMPARED[i]] or false, new[COMPARED[i]]
    if not changed and value ~= nil and value ~= old then
      changed = (value or -1) - (old or -1) ~= 0
    end
  end
  if not changed then return nil, extra end
  for name, value in pairs(extra) do new[name] = value end

  if update.percent == false and not state.pace then new.pace = at .. ' ' .. at .. ' 0 0' end
  return with_eta(state, new, at)
end

-- Returns the record after the first event of an attempt.
local function start_attempt(record, attempt, at)
  local cleared = first_record(record, attempt, update.status or 'running', at)
  if cleared.started_at then
    cleared.started_at = begin_time(at, record.created_at or 0)
    cleared.created_at = record.created_at or cleared.started_at
  end
  cleared.run, cleared.opened_at = update.run, update.start and at or nil
  if record.sums then
    local sums
    sums, ended_children = total_of(JOB, true)
    cleared.sums = format_sums(sums)
  end
  if record.status == 'queued' and tonumber(record.attempt) == tonumber(attempt) then
    copy_request(record, cleared)
  end
  apply(cleared, apply_fields(cleared, at) or {})
  if cleared.request and not accepts_verb(cleared, cleared.request_verb) then copy_request({}, cleared) end
  return replace(record, cleared)
end

-- Returns the changes of the record that store a request; or nil, and the reason why there is no event.
local function store_request(record, at)
  if update.attempt and tonumber(update.attempt) ~= tonumber(record.attempt) then
    return nil, 'stale_attempt'
  end
  if RANK[record.status] == 2 then return nil, 'final' end
  if not accepts_verb(record, update.request_verb) then return nil, 'not_accepted' end
  if has_request(record, update.request_id) then return nil, 'unchanged', {} end
  return request_changes(record, update.request, update.request_id, update.request_verb, update.request_alone, at)
end

-- The name and the number of a run `NAME#NUMBER` or `NAME#NUMBER~…`.
local function try_of(run)
  local name, number = string.match(run or '', '^([^#]+)#(%d+)$')
  if not name then name, number = string.match(run or '', '^([^#]+)#(%d+)~[^#]*$') end
  if name and #number < 10 then return name, tonumber(number) end
end

local function is_earlier_try(run, of)
  local name, number = try_of(run)
  local newer, highest = try_of(of)
  return name and name == newer and number < highest
end

local REPORTS_NOTHING = {
  attempt = 1, run = 1, part = 1, age = 1, ack = 1, refused = 1, traceparent = 1,
}

-- Whether the update may create an unknown job: a request, or an update without a report, may not.
local function may_begin()
  if update.request then return false end
  for name in pairs(update) do
    if not REPORTS_NOTHING[name] then return true end
  end
  return false
end

-- Returns the changes of the record; or nil, the reason why there is no event, and the changes that
-- are made nevertheless.
local function reduce(record)
  if not record.epoch then return start_attempt(record, update.attempt or 1, now) end
  local at = record.updated_at - NOW > 0 and record.updated_at or now
  if update.request then return store_request(record, at) end
  local attempt = tonumber(record.attempt)
  if update.start and (not update.run or update.run ~= record.run) then
    if is_earlier_try(update.run, record.run) then return nil, 'stale_attempt' end
    return start_attempt(record, record.status == 'queued' and attempt or attempt + 1, at)
  end
  if update.attempt and not update.start then
    local given = tonumber(update.attempt == record.alias and record.attempt or update.attempt)
    if given > attempt then return start_attempt(record, given, at) end
    if given < attempt then return nil, 'stale_attempt' end
  end
  if update.run and record.run and update.run ~= record.run then return nil, 'other_run' end
  if RANK[record.status] == 2 then return nil, 'final' end
  if too_many_parts(record) then return nil, 'too_many_parts' end
  local changes, extra = apply_fields(record, at)
  if changes then return changes end
  return nil, 'unchanged', extra
end

local record, unreadable = read(LAST)
if unreadable then return redis.error_reply(unreadable) end
record = record or {}
if update.children ~= nil or record.sums then -- what a group's children decide
  update.part, update.done, update.total, update.percent = nil, nil, nil, nil
end
if not record.epoch and not may_begin() then return {0, 0, 0, 'unknown', ''} end
local changes, reason, extra = reduce(record)
if changes then
  if not update.request then changes.reported_at = now end
  local number
  number, unreadable = commit(JOB, LAST, LOG, record, changes, update.traceparent)
  if unreadable then return redis.error_reply(unreadable) end
  -- A node's own job (its name has a `!`) is in no list.
  if string.byte(JOB) ~= 33 then redis.call('ZADD', RECENT, number, JOB) end
  drop_ended_contributions(JOB, ended_children)
  contribute(JOB, record)
  if not update.request then send_inherited_request(JOB, record) end
elseif reason == 'unchanged' and not update.request then
  extra.reported_at = now
  write_without_event(JOB, LAST, LOG, record, extra)
  send_inherited_request(JOB, record)
end
return {tonumber(record.epoch), tonumber(record.seq), tonumber(record.attempt), reason or '',
        record.request_is == 'open' and record.request or ''}
