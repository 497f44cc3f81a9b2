-- Expire leases, and drop the jobs that have had no report for the time of retention. Many nodes
-- may call this: a job that one of them has handled has a later deadline.
--
-- Without jobs it only returns the jobs whose deadline is over (at most ARGV 2). With jobs (their
-- `last` and `log` must be in KEYS, so that it works in a cluster) it handles those whose deadline
-- still is over, and returns the number of events that it has made.
--
-- Nodes call this every second. If there was no call for `CLOCK_STEP`, no node was running or the
-- clock was set, so workers could not renew their leases: then all leases start again. If the clock
-- was set back, all jobs are checked and get new times. They are also checked if the key of the leases
-- was lost, such as by eviction.
--
-- ARGV  2 the maximum number of jobs, then the jobs

local RECHECK_AFTER = 60 -- seconds until the next check of an unreadable record (a newer version)

local COMPLETE = '/' -- the member of `leases` that is there if no job is missing; it is not a job id

local checked = redis.call('HMGET', COUNTERS, 'checked_at', 'leases_from')
local leases_from = tonumber(checked[2] or 0)

if #ARGV == 2 then
  local step = checked[1] and NOW - checked[1] or 0
  local incomplete = not redis.call('ZSCORE', LEASES, COMPLETE)
  if step > CLOCK_STEP or step < -1 then
    redis.call('HSET', COUNTERS, 'leases_from', now)
    if step < 0 then redis.call('ZUNIONSTORE', LEASES, 1, LEASES, 'WEIGHTS', 0) end
  end
  if incomplete then
    redis.call('ZUNIONSTORE', LEASES, 2, LEASES, RECENT, 'WEIGHTS', 1, 0, 'AGGREGATE', 'MAX')
  end
  if incomplete or step < 0 then redis.call('ZADD', LEASES, '+inf', COMPLETE) end
  redis.call('HSET', COUNTERS, 'checked_at', now)
  return redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, ARGV[2])
end

local function expire(record)
  return {health = record.health == 'ok' and 'stalled' or 'lost', eta = false}
end

local expired = 0
for i = 3, #ARGV do
  local job, last, log = ARGV[i], KEYS[2 * i - 1], KEYS[2 * i]
  local score = redis.call('ZSCORE', LEASES, job)
  if score and tonumber(score) <= NOW then
    local record, unreadable = read(last)
    local at, lease_ends, reported_at
    if record then
      reported_at = record.reported_at
      if reported_at - NOW > 0 then reported_at = now end
      if record.status == 'running' and leases_from - reported_at > 0 and leases_from <= NOW then
        reported_at = checked[2]
      end
      record.reported_at = reported_at
      at, lease_ends = deadline(job, record)
    end
    if record and record.sums and at <= NOW and RANK[record.status] < 2
      and not string.find(record.sums, '^0 0 ') then
      reported_at = now -- a group is kept as long as it has active children
      record.reported_at = reported_at
      at = deadline(job, record)
    end
    if lease_ends and at <= NOW then
      local number
      number, unreadable = commit(job, last, log, record, expire(record))
      if number then
        expired = expired + 1
        contribute(job, record, true)
      end
    elseif record and at > NOW then
      record.wakes_at, record.reported_at = nil, nil -- so that both fields are written
      write_without_event(job, last, log, record, {reported_at = reported_at})
    elseif not unreadable then
      redis.call('DEL', last, log)
      redis.call('ZREM', LEASES, job)
      redis.call('ZREM', RECENT, job)
      drop_contribution(job)
    end
    if unreadable then redis.call('ZADD', LEASES, NOW + RECHECK_AFTER, job) end
  end
end
return expired
