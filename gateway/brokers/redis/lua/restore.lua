-- Restore the states that a node has shown and that this server may have lost, after a failover or
-- a restart. A job that is unknown here, or older than the state that was shown, gets that state
-- again, in a new epoch. So no client sees the older state. If only a request is newer, the job gets
-- that request.
--
-- If several nodes have shown a job, the newest state counts, in any order of the calls. A run that
-- a worker has started since then is kept, but its attempt number follows the one that was shown;
-- `alias` is the number that its worker has got.
--
-- Groups are restored before their children. The state of a restored group includes its children's
-- contributions, so these are counted after all jobs were restored. Otherwise they could open the
-- group's next attempt, or end it.
--
-- ARGV  2… for each job (`last` and `log` must be in KEYS): its name, the number of fields, and the
--       names and values of its state

local function is_older(record, shown)
  for _, compared in ipairs({'attempt', 'status', 'percent', 'done', 'updated_at'}) do
    local here, there = record[compared] or 0, shown[compared] or 0
    if compared == 'done' and record.phase ~= shown.phase then here, there = 0, 0 end
    if compared == 'status' then here, there = RANK[here], RANK[there] end
    here, there = tonumber(here), tonumber(there)
    if here ~= there then return here < there end
  end
  return false
end

-- Whether a worker has started the record's run after the state that was shown. If both have the same
-- millisecond, it has only if the record is older; otherwise the shown state is that start itself.
local function is_newer_run(record, shown)
  local opened_at, seen_at = tonumber(record.opened_at or 0), tonumber(shown.updated_at)
  return (opened_at > seen_at or opened_at == seen_at and is_older(record, shown))
    and tonumber(record.attempt) <= tonumber(shown.attempt)
end

-- The number of a run that a worker has started after the state that was shown. A `start` continues
-- a queued attempt.
local function number_after(shown)
  return whole(shown.status == 'queued' and shown.attempt or shown.attempt + 1)
end

-- Whether both belong to the same run. A run whose number was raised has another number since then.
local function is_same_run(record, shown)
  return record.attempt == shown.attempt
    or (record.started_at and record.started_at == shown.started_at)
end

local function has_newer_request(record, shown)
  return record.attempt == shown.attempt and RANK[record.status] < 2
    and stored_at(shown.request) > stored_at(record.request)
end

local function is_past_retention(shown)
  local has_ended = RANK[shown.status] == 2 or shown.health == 'lost'
  return has_ended and shown.updated_at + RETENTION < NOW
end

local to_count = {}
local REPAIR = tonumber(redis.call('HGET', COUNTERS, 'repair') or 0)

local function is_restored(group)
  local record = redis.pcall('HMGET', PREFIX .. 'last:' .. group, 'restored', 'epoch')
  return record[1] == '1' and tonumber(record[2] or 0) >= REPAIR
end

-- Count a restored job in its group.
local function count_again(job, record)
  local group = group_of(job)
  if group and is_restored(group) then
    store_contribution(job, record)
    to_count[group] = true
  else
    contribute(job, record)
  end
end

local at, key = 2, 5
while at <= #ARGV do
  local job, fields = ARGV[at], ARGV[at + 1]
  local shown = {}
  for i = at + 2, at + 2 * fields, 2 do shown[ARGV[i]] = ARGV[i + 1] end
  local last, log = KEYS[key], KEYS[key + 1]
  local record, unreadable = read(last)
  if unreadable then
    -- foreign data, or a newer version: it is not changed
  elseif record and is_newer_run(record, shown) then
    local attempt = number_after(shown)
    if attempt ~= record.attempt then
      local changes = {attempt = attempt, alias = record.alias or record.attempt}
      if commit(job, last, log, record, changes, nil, true) then contribute(job, record) end
    end
  elseif (not record and not is_past_retention(shown)) or (record and is_older(record, shown)) then
    local before = record or {}
    for _, name in ipairs({'epoch', 'seq'}) do shown[name] = before[name] end
    if record and is_same_run(record, shown) then
      shown.run, shown.opened_at, shown.alias = record.run, record.opened_at, record.alias
      if record.attempt ~= shown.attempt then shown.alias = record.alias or record.attempt end
    end
    shown.reported_at, shown.restored = now, '1'
    if shown.children then
      shown.sums = format_sums((total_of(job)))
      to_count[job] = true
    end
    local number = commit(job, last, log, before, replace(before, shown), nil, true)
    if number then
      redis.call('ZADD', RECENT, number, job)
      count_again(job, before)
    end
  elseif record and has_newer_request(record, shown) then
    local changes = {}
    copy_request(shown, changes)
    changes.request_ids = ids_of_requests(record)
    changes.request_alone = shown.request_alone or false
    local number = commit(job, last, log, record, changes, nil, true)
    if number then redis.call('ZADD', RECENT, number, job) end
  end
  at, key = at + 2 + 2 * fields, key + 2
end

local function depth(job)
  return select(2, string.gsub(job, '/', ''))
end

local groups = {}
for group in pairs(to_count) do groups[#groups + 1] = group end
table.sort(groups, function(a, b)
  if depth(a) ~= depth(b) then return depth(a) > depth(b) end
  return a < b
end)
-- First all sums, because a group that is recounted changes those of the groups above it.
for _, group in ipairs(groups) do
  redis.call('HSET', PREFIX .. 'last:' .. group, 'sums', format_sums((total_of(group))))
end
for _, group in ipairs(groups) do recount(group) end
