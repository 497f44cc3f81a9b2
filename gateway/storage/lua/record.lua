-- A job's record in Redis: how it is kept, and what changes together with it.
-- Every script is this file followed by its own (Redis has no `require`).
--
-- KEYS  1 feed  2 leases  3 recent  4 counters, then `last` and `log` of each job
-- ARGV  1 history  2 length of the feed  3 retention in seconds, then the script's own
--
-- A record is the hash `last` as a table: name → text. Beside the state it has `epoch`,
-- `seq`, `run`, `pace` (since, at, percent, rate), `heard_at`, `wakes_at`, and, if an era
-- has ended since it was made, its `past_epoch`. A number stays the text it was written
-- as, so that every reader has the same digits as gateway/fold.py.

local FEED, LEASES, RECENT, COUNTERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local HISTORY, FEED_LENGTH, RETENTION = ARGV[1], ARGV[2], tonumber(ARGV[3])
local LOST_AFTER = 10 -- leases

-- Each field of the state (but `status`, `health`, `data`) and what stands before it in JSON.
local TEXTS = {
  'unit', ',"unit":', 'phase', ',"phase":', 'message', ',"message":', 'error', ',"error":',
  'parent', ',"parent":',
}
local NUMBERS = {
  'attempt', ',"attempt":', 'percent', ',"percent":', 'done', ',"done":', 'total', ',"total":',
  'lease', ',"lease":', 'eta', ',"eta":', 'created_at', ',"created_at":',
  'started_at', ',"started_at":', 'updated_at', ',"updated_at":', 'finished_at', ',"finished_at":',
}

local time = redis.call('TIME')
local now = string.format('%.3f', time[1] + time[2] / 1e6)

local counters = redis.call('HMGET', COUNTERS, 'epoch', 'era')
local newest_epoch, ERA = tonumber(counters[1] or 0), tonumber(counters[2] or 0)

local function read(last)
  local flat = redis.call('HGETALL', last)
  if #flat == 0 then return nil end
  local record = {}
  for i = 1, #flat, 2 do record[flat[i]] = flat[i + 1] end
  return record
end

local function copy(record)
  local other = {}
  for name, value in pairs(record) do other[name] = value end
  return other
end

local function whole(number)
  return string.format('%.0f', number)
end

local function quoted(text)
  return string.find(text, '[%c"\\]') and cjson.encode(text) or '"' .. text .. '"'
end

-- An event as JSON: its number in the feed, job, epoch, seq, state and, if any, data.
-- One concatenation at the end: each `..` would make, hash and free a string.
local function event(number, job, record)
  local parts = {'[', whole(number), ',"', job, '",', record.epoch, ',', record.seq,
                 ',{"status":"', record.status, '","health":"', record.health, '"'}
  local n = #parts
  for i = 1, #TEXTS, 2 do
    local value = record[TEXTS[i]]
    if value then
      parts[n + 1], parts[n + 2] = TEXTS[i + 1], quoted(value)
      n = n + 2
    end
  end
  for i = 1, #NUMBERS, 2 do
    local value = record[NUMBERS[i]]
    if value then
      parts[n + 1], parts[n + 2] = NUMBERS[i + 1], value
      n = n + 2
    end
  end
  parts[n + 1] = '}'
  if record.data then parts[n + 2], parts[n + 3] = ',', record.data end
  parts[#parts + 1] = ']'
  return table.concat(parts)
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

-- Have it looked at no later than its deadline. A look that is too early costs little, and
-- makes the next one; so most updates have nothing to do here. Answers for how many
-- milliseconds the keys must be kept if that is to change: longer than whatever is heard
-- until the look. It is the reaper that forgets, and expiry if there is none.
local function watch(job, record)
  local wakes_at = tonumber(record.wakes_at or 0)
  local at = deadline(record)
  if wakes_at > tonumber(now) and wakes_at <= at then return nil end
  record.wakes_at = string.format('%.17g', at)
  redis.call('ZADD', LEASES, record.wakes_at, job)
  return whole((math.max(at - now, 0) + RETENTION) * 1000)
end

-- Write `record` in place of `before`, and have both keys kept for `kept`, if that changes.
local function write(last, log, before, record, kept)
  local set, n = {}, 0
  for name, value in pairs(record) do
    if value ~= before[name] then
      set[n + 1], set[n + 2] = name, value
      n = n + 2
    end
  end
  if n > 0 then redis.call('HSET', last, unpack(set)) end
  for name in pairs(before) do
    if not record[name] then redis.call('HDEL', last, name) end
  end
  if kept then
    redis.call('PEXPIRE', last, kept)
    redis.call('PEXPIRE', log, kept)
  end
end

-- Snapshot, history, feed and lease, together. `before` is the record that `record`
-- follows, if any; one of an earlier era is not followed, but begun anew.
local function commit(job, last, log, before, record)
  if before and not past(before) then
    record.seq = whole(record.seq + 1)
  else
    record.past_epoch = before and before.epoch
    record.epoch, record.seq = next_epoch(), '1'
    record.wakes_at = nil
    redis.call('DEL', log)
  end

  local number = redis.call('HINCRBY', COUNTERS, 'events', 1)
  local text = event(number, job, record)
  redis.call('XADD', log, 'MAXLEN', '~', HISTORY, record.seq .. '-0', 'event', text)
  redis.call('XADD', FEED, 'MAXLEN', '~', FEED_LENGTH, '*', 'event', text)

  write(last, log, before or {}, record, watch(job, record))
  return number
end
