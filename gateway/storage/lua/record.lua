-- A job's record in Redis: how it is kept, and what changes together with it.
-- Every script is this file followed by its own (Redis has no `require`).
--
-- KEYS  1 feed  2 leases  3 recent  4 counters, then `last` and `log` of each job
-- ARGV  1 history  2 length of the feed  3 retention in seconds, then the script's own
--
-- A record is the hash `last` as a table: name → text. Beside the state it has `epoch`,
-- `seq`, `run`, `pace` (since, at, percent, rate), `heard_at`, `wakes_at`, and, if an era
-- has ended since it was made, its `past_epoch`. A number stays the text it was written
-- as, so that every reader has the same digits as gateway/fold.py. What becomes of it is a
-- table of changes: name → its new text, or false if it is to have none.

local FEED, LEASES, RECENT, COUNTERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local HISTORY, FEED_LENGTH, RETENTION = ARGV[1], ARGV[2], tonumber(ARGV[3])
local LOST_AFTER = 10 -- leases

local time = redis.call('TIME')
local now = string.format('%.3f', time[1] + time[2] / 1e6)
local NOW = tonumber(now)

local counters = redis.call('HMGET', COUNTERS, 'epoch', 'era')
local newest_epoch, ERA = tonumber(counters[1] or 0), tonumber(counters[2] or 0)

local function read(last)
  local flat = redis.call('HGETALL', last)
  if #flat == 0 then return nil end
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

local function whole(number)
  return string.format('%d', number)
end

-- A field of JSON with the comma and the name before it; nothing if there is no value.
local function plain(name, value)
  return value and name .. value or ''
end

local function quoted(name, value)
  if not value then return '' end
  if string.find(value, '[%c"\\]') then return name .. cjson.encode(value) end
  return name .. '"' .. value .. '"'
end

-- An event as JSON: its number in the feed, job, epoch, seq, state and, if any, data. It is
-- one concatenation, because each makes, hashes and later frees a string.
local function event(number, job, record)
  return '[' .. whole(number) .. ',"' .. job .. '",' .. record.epoch .. ',' .. record.seq
    .. ',{"status":"' .. record.status .. '","health":"' .. record.health .. '"'
    .. quoted(',"unit":', record.unit)
    .. quoted(',"phase":', record.phase)
    .. quoted(',"message":', record.message)
    .. quoted(',"error":', record.error)
    .. quoted(',"parent":', record.parent)
    .. ',"attempt":' .. record.attempt
    .. plain(',"percent":', record.percent)
    .. plain(',"done":', record.done)
    .. plain(',"total":', record.total)
    .. ',"lease":' .. record.lease
    .. plain(',"eta":', record.eta)
    .. ',"created_at":' .. record.created_at
    .. plain(',"started_at":', record.started_at)
    .. ',"updated_at":' .. record.updated_at
    .. plain(',"finished_at":', record.finished_at)
    .. '}' .. plain(',', record.data) .. ']'
end

local function next_epoch()
  -- Microseconds: new for every record, larger than any before, and still a whole number
  -- in JavaScript and here.
  newest_epoch = math.max(newest_epoch + 1, time[1] * 1e6 + time[2])
  redis.call('HSET', COUNTERS, 'epoch', whole(newest_epoch))
  return whole(newest_epoch)
end

-- Whether it was written in an earlier era (takeover.lua): its position means nothing now.
local function past(record)
  return tonumber(record.epoch) < ERA
end

-- When silence next has a consequence: a lapse, or that the job is forgotten.
local function deadline(record)
  local heard_at = tonumber(record.heard_at)
  local forgotten_at = heard_at + RETENTION
  if record.status ~= 'running' or record.health == 'lost' then return forgotten_at, false end
  local lapses_at = heard_at + record.lease * (record.health == 'ok' and 1 or LOST_AFTER)
  if lapses_at < forgotten_at then return lapses_at, true end
  return forgotten_at, false
end

-- Bring `changes` into `record`. Answers what that takes in its hash: the arguments of HSET
-- after the key, and those of HDEL.
local function apply(record, changes)
  local set, gone, n = {}, {}, 0
  for name, value in pairs(changes) do
    if value ~= (record[name] or false) then
      record[name] = value or nil
      if value then
        set[n + 1], set[n + 2] = name, value
        n = n + 2
      else
        gone[#gone + 1] = name
      end
    end
  end
  return set, gone
end

-- The changes that leave nothing in `record` but what is in `new`.
local function replace(record, new)
  for name in pairs(record) do
    if new[name] == nil then new[name] = false end
  end
  return new
end

-- Write what was applied to `record`, and have the job looked at no later than its deadline.
-- A look that is too early costs little, and makes the next one; so most updates change
-- nothing there. If this one does, both keys are kept for longer than whatever is heard
-- until the look. It is the reaper that forgets, and expiry if there is none.
local function write(job, last, log, record, set, gone)
  local at = deadline(record)
  local wakes_at = tonumber(record.wakes_at or 0)
  local kept = wakes_at > NOW and wakes_at <= at
  if not kept then
    record.wakes_at = string.format('%.17g', at)
    set[#set + 1], set[#set + 2] = 'wakes_at', record.wakes_at
    redis.call('ZADD', LEASES, record.wakes_at, job)
  end
  if #set > 0 then redis.call('HSET', last, unpack(set)) end
  if #gone > 0 then redis.call('HDEL', last, unpack(gone)) end
  if not kept then
    local milliseconds = whole((math.max(at - NOW, 0) + RETENTION) * 1000)
    redis.call('PEXPIRE', last, milliseconds)
    redis.call('PEXPIRE', log, milliseconds)
  end
end

-- Nobody needs to know of these changes: there is no event.
local function note(job, last, log, record, changes)
  write(job, last, log, record, apply(record, changes))
end

-- Snapshot, history, feed and lease, together. A record of an earlier era is not followed,
-- but begun anew, as is one that has no epoch yet. The `traceparent` of an update, if it has
-- one, goes with the feed alone.
local function commit(job, last, log, record, changes, traceparent)
  if record.epoch and not past(record) then
    changes.seq = whole(record.seq + 1)
  else
    changes.past_epoch = record.epoch or false
    changes.epoch, changes.seq = next_epoch(), '1'
    changes.wakes_at = false
    redis.call('DEL', log)
  end
  local set, gone = apply(record, changes)

  local number = redis.call('HINCRBY', COUNTERS, 'events', 1)
  local text = event(number, job, record)
  redis.call('XADD', log, 'MAXLEN', '~', HISTORY, record.seq .. '-0', 'event', text)
  if traceparent then
    redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'event', text,
               'traceparent', traceparent)
  else
    redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'event', text)
  end

  write(job, last, log, record, set, gone)
  return number
end
