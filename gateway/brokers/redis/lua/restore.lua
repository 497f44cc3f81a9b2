-- Restore the states that a node has shown and that this server may have lost, after a failover or
-- a restart. A job that is unknown here, or older than the state that was shown, gets that state
-- again, in a new epoch. So no client sees the older state.
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
  for _, compared in ipairs({'attempt', 'status', 'percent', 'updated_at'}) do
    local here, there = record[compared] or 0, shown[compared] or 0
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

local function is_past_retention(shown)
  return RANK[shown.status] == 2 and shown.updated_at + RETENTION < NOW
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
    local attempt = whole(shown.attempt + 1)
    if commit(job, last, log, record, {attempt = attempt, alias = record.attempt}, nil, true) then
      contribute(job, record)
    end
  elseif (not record and not is_past_retention(shown)) or (record and is_older(record, shown)) then
    local before = record or {}
    for _, name in ipairs({'epoch', 'seq'}) do shown[name] = before[name] end
    -- The run of another attempt does not belong to the attempt that was shown.
    if before.attempt == shown.attempt then shown.run = before.run end
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
for _, group in ipairs(groups) do recount(group) end
