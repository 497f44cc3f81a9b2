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

local function next_epoch()
  -- Microseconds: new for every record, larger than any before, and still a whole number
  -- in JavaScript and here.
  local last = tonumber(redis.call('HGET', COUNTERS, 'epoch') or 0)
  local epoch = whole(math.max(last + 1, math.floor(time[1] * 1e6 + time[2])))
  redis.call('HSET', COUNTERS, 'epoch', epoch)
  return epoch
end

-- The record at the first event of an attempt.
local function open(before, attempt, at)
  local status = update.status or 'running'
  local blank = {
    epoch = before and before.epoch or next_epoch(),
    seq = before and before.seq or '0',
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
  if not before then redis.call('DEL', LOG) end -- of an older epoch: its ids are in the way
  record.heard_at = now
  local number = commit(JOB, LAST, LOG, before or {}, record)
  redis.call('ZADD', RECENT, number, JOB)
else
  record = before
  if reason == 'unchanged' then
    record.heard_at = now
    redis.call('HSET', LAST, 'heard_at', now)
  end
end
if reason == nil or reason == 'unchanged' then
  local kept = whole(RETENTION * 1000)
  redis.call('PEXPIRE', LAST, kept)
  redis.call('PEXPIRE', LOG, kept)
  watch(JOB, record)
end
return {tonumber(record.epoch), tonumber(record.seq), tonumber(record.attempt), reason or ''}
