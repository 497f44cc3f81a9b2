-- Fold one update into a job's record. gateway/fold.py has the rules; the functions here
-- bear its names and follow its lines, and a property test holds the two together.
--
-- KEYS  5 last:<job>  6 log:<job>
-- ARGV  4 job, then pairs: a field and its value as plain text, or `clear` and a field
--
-- Answers epoch, seq and attempt after it, and why there is no event ('' if there is one).

local JOB, LAST, LOG = ARGV[4], KEYS[5], KEYS[6]

local ORDER = {queued = 0, running = 1, succeeded = 2, failed = 2, cancelled = 2}
local REPLACED = {'unit', 'phase', 'message', 'error', 'parent', 'data'}
local COMPARED = {'lease', 'total', 'done', 'percent'}
local DEFAULT_LEASE = '30.0'
local SETTLED, WINDOW, SHARE = 2.0, 10.0, 0.25 -- gateway/pace.py

-- Text, or false for what is to be cleared.
local update = {}
for i = 5, #ARGV, 2 do
  if ARGV[i] == 'clear' then update[ARGV[i + 1]] = false else update[ARGV[i]] = ARGV[i + 1] end
end

local function tidy(text)
  if #text < 16 and string.find(text, '^[1-9]%d*$') then return text end
  local number = tonumber(text)
  if number == 0 then return '0' end -- and not -0
  if number ~= math.floor(number) then
    text = string.format('%.14g', number)
    number = tonumber(text)
    if number ~= math.floor(number) then return text end
  end
  return whole(number)
end

-- To two digits after the point, and tidy.
local function rounded(number)
  return string.match(string.format('%.2f', number), '^(.-)%.?0*$')
end

-- Arithmetic reads a text once, and `tonumber` twice; each time costs as much as a short
-- function, and all updates of all jobs pass here one after the other.
local function higher(old, new)
  return new ~= old and new - old > 0 and new or old
end

-- The pace, as it is kept: since, at, percent, rate. And the eta, false if there is none.
local function seen(pace, percent, at)
  if not pace then return at .. ' ' .. at .. ' ' .. percent .. ' 0', false end
  local since, rose, risen, rate = string.match(pace, '(%S+) (%S+) (%S+) (%S+)')
  local took, seen_for = at - rose, rose - since
  local gained = percent - risen
  if gained > 0 and took > 0 then
    local latest = gained / took
    local window = math.min(math.max(WINDOW, seen_for * SHARE), seen_for)
    rate = string.format('%.6g', rate + (latest - rate) * (took / (took + window)))
    pace = since .. ' ' .. at .. ' ' .. percent .. ' ' .. rate
    risen, took = percent, 0
  end

  local left = 100 - risen
  if rate == '0' or left <= 0 or at - since < SETTLED then return pace, false end
  local eta = string.format('%.1f', left / rate - took)
  return pace, eta - 0 > 0 and eta
end

local function done(state)
  if not update.done then return false end
  local reported = tidy(update.done)
  local new_phase = update.phase ~= nil and update.phase ~= (state.phase or false)
  if new_phase or not state.done then return reported end
  return higher(state.done, reported)
end

local function percent(state, new)
  if (new.status or state.status) == 'succeeded' then return '100' end
  local reported = update.percent
  if not reported and (new.done ~= nil or new.total ~= nil) then
    local done, total = new.done, new.total
    if done == nil then done = state.done end
    if total == nil then total = state.total end
    if done and total and tonumber(total) ~= 0 then reported = math.min(100 * done / total, 100) end
  end
  return reported and higher(state.percent or '0', rounded(reported)) or state.percent
end

-- What the update changes in the state; nil if nothing.
local function patch(state, at)
  local new = {health = 'ok'}
  local changed = state.health ~= 'ok'
  for i = 1, #REPLACED do
    local name = REPLACED[i]
    local value = update[name]
    if value ~= nil and value ~= (state[name] or false) then new[name], changed = value, true end
  end
  if update.lease ~= nil then new.lease = update.lease and tidy(update.lease) or DEFAULT_LEASE end

  local progress = update.percent or update.done
  local status = update.status or (progress and 'running') or state.status
  if ORDER[status] > ORDER[state.status] then
    new.status, changed = status, true
    if state.status == 'queued' then new.started_at = at end
    if ORDER[status] == 2 then new.finished_at = at end
  end
  if update.total ~= nil then new.total = update.total and tidy(update.total) end
  if update.done ~= nil then new.done = done(state) end
  new.percent = percent(state, new)

  for i = 1, #COMPARED do
    local old, value = state[COMPARED[i]] or false, new[COMPARED[i]]
    if not changed and value ~= nil and value ~= old then
      changed = (value or -1) - (old or -1) ~= 0
    end
  end
  if not changed then return nil end

  new.eta, new.updated_at = false, at
  if new.percent and (new.status or state.status) == 'running' then
    new.pace, new.eta = seen(state.pace, new.percent, at)
  end
  return new
end

-- The record at the first event of an attempt.
local function open(record, attempt, at)
  local status = update.status or 'running'
  local blank = {
    epoch = record.epoch,
    seq = record.seq,
    wakes_at = record.wakes_at,
    run = update.run,
    status = status,
    attempt = whole(attempt),
    health = 'ok',
    percent = status == 'succeeded' and '100' or nil,
    parent = record.parent,
    lease = record.lease or DEFAULT_LEASE,
    created_at = record.created_at or at,
    started_at = status ~= 'queued' and at or nil,
    updated_at = at,
    finished_at = ORDER[status] == 2 and at or nil,
  }
  apply(blank, patch(blank, at) or {})
  return replace(record, blank)
end

-- What changes in the record, or nil and the reason why there is no event.
local function fold(record)
  if not record.epoch then return open(record, update.attempt or 1, now) end
  local at = record.updated_at - NOW > 0 and record.updated_at or now
  local attempt = tonumber(record.attempt)
  if update.start and (not update.run or update.run ~= record.run) then
    return open(record, record.status == 'queued' and attempt or attempt + 1, at)
  end
  if update.attempt and not update.start then
    local given = tonumber(update.attempt)
    if given > attempt then return open(record, given, at) end
    if given < attempt then return nil, 'stale_attempt' end
  end
  if ORDER[record.status] == 2 then return nil, 'final' end
  local changes = patch(record, at)
  return changes, not changes and 'unchanged' or nil
end

local record = read(LAST) or {}
local changes, reason = fold(record)
if changes then
  changes.heard_at = now
  local number = commit(JOB, LAST, LOG, record, changes, update.traceparent)
  -- What no worker can name (a node's own, with a `!`) is in no list.
  if string.byte(JOB) ~= 33 then redis.call('ZADD', RECENT, number, JOB) end
elseif reason == 'unchanged' then
  note(JOB, LAST, LOG, record, {heard_at = now})
end
return {tonumber(record.epoch), tonumber(record.seq), tonumber(record.attempt), reason or ''}
