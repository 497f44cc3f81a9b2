-- Fold what leases have run out, and forget the jobs nobody has said a word about for the
-- time of retention. Safe to call from many nodes: what one has claimed is no longer due.
--
-- Called without jobs, it only answers which are due (at most ARGV 4). Called with them,
-- `last` and `log` of each being in KEYS (so it also works in a cluster), it folds those
-- that are still due and answers how many events that made.
--
-- ARGV  4 how many at most, then the jobs

if #ARGV == 4 then
  return redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', 0, ARGV[4])
end

local function lapse(record)
  return {health = record.health == 'ok' and 'stalled' or 'lost', eta = false}
end

local reaped = 0
for i = 5, #ARGV do
  local job, last, log = ARGV[i], KEYS[2 * i - 5], KEYS[2 * i - 4]
  local score = redis.call('ZSCORE', LEASES, job)
  if score and tonumber(score) <= NOW then
    local record = read(last)
    local at, lapses
    if record then at, lapses = deadline(record) end
    if lapses and at <= NOW then
      commit(job, last, log, record, lapse(record))
      reaped = reaped + 1
    elseif record and at > NOW then
      note(job, last, log, record, {})
    else
      redis.call('DEL', last, log)
      redis.call('ZREM', LEASES, job)
      redis.call('ZREM', RECENT, job)
    end
  end
end
return reaped
