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

local update, clears = {}, {}
for i = 5, #ARGV, 2 do
  if ARGV[i] == 'clear' then clears[ARGV[i + 1]] = true else update[ARGV[i]] = ARGV[i + 1] end
end

local function given(name)
  return update[name] ~= nil or clears[name]
end

local function tidy(number)
  number = tonumber(number)
  if number == 0 then return '0' end -- and not -0
  if number ~= math.floor(number) then
    local text = string.format('%.14g', number)
    number = tonumber(text)
    if number ~= math.floor(number) then return text end
  end
  return whole(number)
end

local function higher(old, new)
  return tonumber(new) > tonumber(old) and new or old
end

-- The pace, as it is kept: since, at, percent, rate.
local function seen(pace, percent, at)
  if not pace then return at .. ' ' .. at .. ' ' .. percent .. ' 0' end
  local since, rose, risen, rate = string.match(pace, '(%S+) (%S+) (%S+) (%S+)')
  local took = at - rose
  if tonumber(percent) <= tonumber(risen) or took <= 0 then return pace end
  local latest = (percent - risen) / took
  local seen_for = rose - since
  local window = math.min(math.max(WINDOW, seen_for * SHARE), seen_for)
  rate = rate + (latest - rate) * (took / (took + window))
  return since .. ' ' .. at .. ' ' .. percent .. ' ' .. string.format('%.6g', rate)
end

local function eta(pace, at)
  local since, rose, risen, rate = string.match(pace, '(%S+) (%S+) (%S+) (%S+)')
  if tonumber(rate) == 0 or tonumber(risen) >= 100 or at - since < SETTLED then return nil end
  local left = string.format('%.1f', (100 - risen) / rate - (at - rose))
  return tonumber(left) > 0 and left or nil
end

local function done(state)
  if not update.done then return nil end
  local reported = tidy(update.done)
  if not state.done or (given('phase') and update.phase ~= state.phase) then return reported end
  return higher(state.done, reported)
end

local function percent(state, new)
  local reported
  if update.percent then
    reported = string.format('%.2f', update.percent)
  elseif (given('done') or given('total')) and new.done and new.total
    and tonumber(new.total) ~= 0 then
    reported = string.format('%.2f', math.min(100 * new.done / new.total, 100))
  end
  if new.status == 'succeeded' then return '100' end
  return reported and higher(state.percent or '0', tidy(reported)) or state.percent
end

-- The state with the update in it; nil if nothing changed.
local function patch(state, at)
  local new = copy(state)
  new.health = 'ok'
  for _, name in ipairs(REPLACED) do
    if clears[name] then new[name] = nil else new[name] = update[name] or state[name] end
  end
  if clears.lease then new.lease = DEFAULT_LEASE end
  if update.lease then new.lease = tidy(update.lease) end

  local progress = update.percent or update.done
  local status = update.status or (progress and 'running') or state.status
  if ORDER[status] > ORDER[state.status] then
    new.status = status
    if state.status == 'queued' then new.started_at = at end
    if ORDER[status] == 2 then new.finished_at = at end
  end
  if given('total') then new.total = update.total and tidy(update.total) end
  if given('done') then new.done = done(state) end
  new.percent = percent(state, new)

  local changed = new.health ~= state.health or new.status ~= state.status
  for _, name in ipairs(REPLACED) do changed = changed or new[name] ~= state[name] end
  for _, name in ipairs(COMPARED) do
    changed = changed or tonumber(new[name] or -1) ~= tonumber(state[name] or -1)
  end
  if not changed then return nil end

  local running = new.status == 'running'
  if new.percent and running then new.pace = seen(new.pace, new.percent, at) end
  new.eta = new.pace and running and eta(new.pace, at) or nil
  new.updated_at = at
  return new
end

-- The record at the first event of an attempt.
local function open(before, attempt, at)
  local status = update.status or 'running'
  local blank = {
    epoch = before and before.epoch,
    seq = before and before.seq,
    wakes_at = before and before.wakes_at,
    run = update.run,
    status = status,
    attempt = whole(attempt),
    health = 'ok',
    percent = status == 'succeeded' and '100' or nil,
    parent = before and before.parent,
    lease = before and before.lease or DEFAULT_LEASE,
    created_at = before and before.created_at or at,
    started_at = status ~= 'queued' and at or nil,
    updated_at = at,
    finished_at = ORDER[status] == 2 and at or nil,
  }
  return patch(blank, at) or blank
end

local function fold(record)
  if not record then return open(nil, update.attempt or 1, now) end
  local at = higher(record.updated_at, now)
  local attempt = tonumber(record.attempt)
  if update.start and (not update.run or update.run ~= record.run) then
    return open(record, record.status == 'queued' and attempt or attempt + 1, at)
  end
  if update.attempt and not update.start then
    if tonumber(update.attempt) > attempt then return open(record, update.attempt, at) end
    if tonumber(update.attempt) < attempt then return nil, 'stale_attempt' end
  end
  if ORDER[record.status] == 2 then return nil, 'final' end
  local changed = patch(record, at)
  return changed, not changed and 'unchanged' or nil
end

local before = read(LAST)
local record, reason = fold(before)
if record then
  record.heard_at = now
  local number = commit(JOB, LAST, LOG, before, record)
  -- What no worker can name (a node's own, with a `!`) is in no list.
  if string.byte(JOB) ~= 33 then redis.call('ZADD', RECENT, number, JOB) end
elseif reason == 'unchanged' then
  record = copy(before)
  record.heard_at = now
  write(LAST, LOG, before, record, watch(JOB, record))
else
  record = before
end
return {tonumber(record.epoch), tonumber(record.seq), tonumber(record.attempt), reason or ''}
