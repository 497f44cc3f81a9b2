-- A job's record in Redis: its layout, and the changes of all its keys together.
-- Every script consists of the generated constants.lua, this file, groups.lua and its own file,
-- because Redis has no `require`.
--
-- KEYS  1 feed  2 leases  3 recent  4 counters, then `last` and `log` of each job
-- ARGV  1 the generation that the caller knows, or '' if it follows no feed; then the script's
--       own arguments. In another generation the call is refused, because the caller is out of date.
--
-- A record is the hash `last` as a table: name → text. Besides the state it has `v` (the version
-- of this layout), `epoch`, `seq`, `run`, `pace` (since, at, percent, rate), `reported_at`,
-- `wakes_at`, `opened_at` (when a `start` opened the attempt), `alias` (lua/restore.lua), and of a
-- request `request_id`, `request_verb`, `request_is` (open, seen, refused) and `request_alone`;
-- `request_ids` are those of the attempt's earlier requests.
-- Numbers are kept as text, so that every reader has the same digits as model/reducer.py. Changes
-- are a table too: name → its new text, or false to delete it.

local FEED, LEASES, RECENT, COUNTERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local time = redis.call('TIME')
local now = string.format('%.3f', time[1] + time[2] / 1e6)
local NOW = tonumber(now)

-- The nodes set history and retention (lua/failover.lua), so that all publishers use the same.
local counters = redis.call('HMGET', COUNTERS, 'epoch', 'generation', 'history', 'retention')
local newest_epoch, GENERATION = tonumber(counters[1] or 0), tonumber(counters[2] or 0)
local HISTORY, RETENTION = counters[3] or DEFAULT_HISTORY, tonumber(counters[4] or DEFAULT_RETENTION)

if ARGV[1] ~= '' and tonumber(ARGV[1]) ~= GENERATION then
  return redis.error_reply('GENERATION the jobs are in generation ' .. (counters[2] or '0'))
end

-- Seconds that children's contributions are kept without a report: longer than any record of them.
local CHILDREN_KEPT = 2 * math.max(RETENTION, QUEUED_RETENTION)

local COUNTS = {'epoch', 'seq', 'attempt'}
local NUMBERS = {'lease', 'created_at', 'updated_at', 'reported_at', 'wakes_at'}
local OPTIONAL_NUMBERS = {'percent', 'done', 'total', 'weight', 'eta', 'started_at', 'finished_at'}
local CHILDREN = '^{"expected":[%dnul.]+,"queued":%d+,"running":%d+,"succeeded":%d+,"failed":%d+,"cancelled":%d+}$'
local SUMS = '^%d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+ %d+$' -- see groups.lua

local function is_number(text)
  return string.find(text, '^%d+%.?%d*[eE]?[+-]?%d*$') and tonumber(text)
end

-- Returns why a hash is not a record of the gateway; nil if it is one. Readers check more; the scripts
-- rely only on this.
local function defect(record)
  if record.v ~= VERSION then
    return record.v and 'it is of version ' .. record.v or 'it has no version'
  end
  if not RANK[record.status or ''] or not HEALTHS[record.health or ''] then
    return 'its status or health is none'
  end
  for i = 1, #COUNTS do
    local value = record[COUNTS[i]]
    if not value or not string.find(value, '^[1-9]%d*$') or #value > 16 then
      return COUNTS[i] .. ' is not a whole number'
    end
  end
  for i = 1, #NUMBERS do
    local value = record[NUMBERS[i]]
    if not value or not is_number(value) then return NUMBERS[i] .. ' is not a number' end
  end
  if (record.children or record.sums)
    and not (string.find(record.children or '', CHILDREN) and string.find(record.sums or '', SUMS)) then
    return 'its children are not counted'
  end
  for i = 1, #OPTIONAL_NUMBERS do
    local value = record[OPTIONAL_NUMBERS[i]]
    if value and not is_number(value) then return OPTIONAL_NUMBERS[i] .. ' is not a number' end
  end
end

-- Returns the error for a key with another type, which names the key. Any other error, such as a
-- missing permission, is returned unchanged.
local function foreign_data_error(err, description)
  local other = string.find(err, 'WRONGTYPE', 1, true) or string.find(err, 'XADD is equal', 1, true)
  return other and 'UNREADABLE ' .. description or err
end

-- Returns the record at `last`, or nil if there is none. If the key has foreign data: nil, and an
-- error that names the key. Foreign data is never overwritten or deleted.
local function read(last)
  local flat = redis.pcall('HGETALL', last)
  if flat.err then return nil, foreign_data_error(flat.err, last .. ' is not a job: it is no hash') end
  if #flat == 0 then return nil end
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  local reason = defect(record)
  if reason then return nil, 'UNREADABLE ' .. last .. ' is not a job: ' .. reason end
  return record
end

local function whole(number)
  return string.format('%d', number)
end

-- Returns a JSON field with a comma and its name before it; empty if there is no value.
local function raw_field(name, value)
  return value and name .. value or ''
end

local function text_field(name, value)
  if not value then return '' end
  if string.find(value, '[%c"\\]') then return name .. cjson.encode(value) end
  return name .. '"' .. value .. '"'
end

-- Returns an event as JSON: its number in the feed, job, epoch, seq, state and, if any, data. It is
-- one concatenation, because each concatenation makes, hashes and frees a string.
local function event(number, job, record)
  return '[' .. whole(number) .. ',"' .. job .. '",' .. record.epoch .. ',' .. record.seq
    .. ',{"status":"' .. record.status .. '","health":"' .. record.health .. '"'
    .. text_field(',"unit":', record.unit)
    .. text_field(',"phase":', record.phase)
    .. text_field(',"message":', record.message)
    .. text_field(',"error":', record.error)
    .. raw_field(',"children":', record.children)
    .. raw_field(',"weight":', record.weight)
    .. raw_field(',"accepts":', record.accepts)
    .. raw_field(',"request":', record.request)
    .. ',"attempt":' .. record.attempt
    .. raw_field(',"percent":', record.percent)
    .. raw_field(',"done":', record.done)
    .. raw_field(',"total":', record.total)
    .. ',"lease":' .. record.lease
    .. raw_field(',"eta":', record.eta)
    .. ',"created_at":' .. record.created_at
    .. raw_field(',"started_at":', record.started_at)
    .. ',"updated_at":' .. record.updated_at
    .. raw_field(',"finished_at":', record.finished_at)
    .. '}' .. raw_field(',', record.data) .. ']'
end

local function next_epoch()
  -- Microseconds: larger than any epoch before, and small enough to be exact in JavaScript and
  -- in Lua.
  newest_epoch = math.max(newest_epoch + 1, time[1] * 1e6 + time[2])
  redis.call('HSET', COUNTERS, 'epoch', whole(newest_epoch))
  return whole(newest_epoch)
end

-- Whether a record was written in an earlier generation (failover.lua), so that its position is void.
local function is_of_earlier_generation(record)
  return tonumber(record.epoch) < GENERATION
end

-- Returns for how many seconds a job is kept after its last report. A queued job has no worker yet
-- that could report; the retention of a lost job starts when it became lost.
local function retention(job, record)
  if string.byte(job) == 33 then return PROBE_RETENTION end -- a node's own job: `!`
  if record.status == 'queued' then return math.max(RETENTION, QUEUED_RETENTION) end
  if record.health == 'lost' then return RETENTION + record.lease * LOST_AFTER end
  return RETENTION
end

-- Returns the next deadline of a job, and whether its lease expires then; otherwise the job is
-- dropped then. If the clock was set back, the last report counts as now.
local function deadline(job, record)
  local reported_at = math.min(tonumber(record.reported_at), NOW)
  if record.status == 'running' and record.health ~= 'lost' and not record.children then
    return reported_at + record.lease * (record.health == 'ok' and 1 or LOST_AFTER), true
  end
  return reported_at + retention(job, record), false
end

-- Apply `changes` to `record`. Returns the arguments of HSET after the key, and those of HDEL.
local function apply(record, changes)
  local set, deleted, n = {}, {}, 0
  for name, value in pairs(changes) do
    if value ~= (record[name] or false) then
      record[name] = value or nil
      if value then
        set[n + 1], set[n + 2] = name, value
        n = n + 2
      else
        deleted[#deleted + 1] = name
      end
    end
  end
  return set, deleted
end

-- Returns the changes that remove everything from `record` except the fields in `new`.
local function replace(record, new)
  for name in pairs(record) do
    if new[name] == nil then new[name] = false end
  end
  return new
end

-- The contributions in groups stay until all children were dropped.
local function keep_children(job, record)
  local prefix = string.sub(FEED, 1, -5) .. 'children:'
  local group = string.match(job, '^(.+)/[^/]+$')
  local kept = whole(CHILDREN_KEPT * 1000)
  if group then redis.call('PEXPIRE', prefix .. group, kept) end
  if record.children then redis.call('PEXPIRE', prefix .. job, kept) end
end

-- Write the changes that were applied to `record`, and schedule the check of the job, no later than
-- its deadline. A check that is too early costs little, and schedules the next one; so most updates
-- change nothing in `leases`. When one does, both keys get an expiry that is later than any deadline
-- until the check. Normally a check drops the job; without nodes the keys expire.
local function write(job, last, log, record, set, deleted)
  local at = deadline(job, record)
  local wakes_at = tonumber(record.wakes_at or 0)
  local kept = wakes_at > NOW and wakes_at <= at
  if not kept then
    record.wakes_at = string.format('%.17g', at)
    set[#set + 1], set[#set + 2] = 'wakes_at', record.wakes_at
    redis.call('ZADD', LEASES, record.wakes_at, job)
  end
  if #deleted > 0 then redis.call('HDEL', last, unpack(deleted)) end
  if #set > 0 then redis.call('HSET', last, unpack(set)) end
  if not kept then
    local milliseconds = whole((math.max(at - NOW, 0) + retention(job, record)) * 1000)
    redis.call('PEXPIRE', last, milliseconds)
    redis.call('PEXPIRE', log, milliseconds)
    keep_children(job, record)
  end
end

-- Write changes that make no event.
local function write_without_event(job, last, log, record, changes)
  write(job, last, log, record, apply(record, changes))
end

-- Returns an error if the key has foreign data.
local function add_to_log(log, ...)
  local answer = redis.pcall('XADD', log, ...)
  return type(answer) == 'table' and answer.err
end

-- Write snapshot, history, feed and lease together. A record of an earlier generation gets a new
-- epoch, like one that has no epoch yet, and any record if `new_epoch`. The `traceparent` of an
-- update, if it has one, is written only to the feed.
--
-- Returns the event's number, or nil and an error that names the key with foreign data; then
-- nothing has changed.
local function commit(job, last, log, record, changes, traceparent, new_epoch)
  local failed
  if record.epoch and not is_of_earlier_generation(record) and not new_epoch then
    if record.seq == '1' then
      -- The log begins with the second event. Then it gets the first one too, which is still in the
      -- record: many jobs have only one event, and use a fifth of the memory without a log.
      failed = add_to_log(log, '1-0', 'event', event(0, job, record))
      changes.wakes_at = false -- so that `write` sets when the log expires
    end
    changes.seq = whole(record.seq + 1)
  else
    local kind = redis.call('TYPE', log).ok
    if kind ~= 'stream' and kind ~= 'none' then
      return nil, 'UNREADABLE ' .. log .. ' is not the log of a job: it is a ' .. kind
    end
    changes.v, changes.epoch, changes.seq, changes.wakes_at = VERSION, next_epoch(), '1', false
    redis.call('DEL', log)
  end
  local set, deleted = apply(record, changes)

  local number = redis.call('HINCRBY', COUNTERS, 'events', 1)
  local text = event(number, job, record)
  if record.seq ~= '1' and not failed then
    failed = add_to_log(log, 'MAXLEN', '~', HISTORY, record.seq .. '-0', 'event', text)
  end
  if failed then
    redis.call('HINCRBY', COUNTERS, 'events', -1)
    return nil, foreign_data_error(failed, log .. ' is not the log of a job: ' .. failed)
  end
  if traceparent then
    redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'event', text,
               'traceparent', traceparent)
  else
    redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'event', text)
  end

  write(job, last, log, record, set, deleted)
  return number
end
