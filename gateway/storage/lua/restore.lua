-- Bring back what a node has seen and this server may have lost: after a failover or a
-- restart, nodes are the witnesses. A job that is unknown here, or known from before what
-- was seen, is again as it was seen, at a new position.
--
-- A record that was made since then by a worker is not touched: it is another one. What
-- several nodes have seen of the same record counts, whoever comes first: `past_epoch`
-- remembers which it was.
--
-- ARGV  4… of each job, `last` and `log` being in KEYS: its name, the epoch it was seen in,
--       how many fields, and so many names and values of its state

local ORDER = {queued = 0, running = 1, succeeded = 2, failed = 2, cancelled = 2}

local function knows_less(record, seen)
  for _, compared in ipairs({'attempt', 'status', 'percent'}) do
    local here, there = record[compared] or 0, seen[compared] or 0
    if compared == 'status' then here, there = ORDER[here], ORDER[there] end
    here, there = tonumber(here), tonumber(there)
    if here ~= there then return here < there end
  end
  return false
end

local at, key = 4, 5
while at <= #ARGV do
  local job, epoch, fields = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local seen = {}
  for i = at + 3, at + 1 + 2 * fields, 2 do seen[ARGV[i]] = ARGV[i + 1] end
  local last, log = KEYS[key], KEYS[key + 1]
  local record = read(last)
  local same = record and (record.epoch == epoch or record.past_epoch == epoch)
  if not record or (same and knows_less(record, seen)) then
    local before = record or {}
    for _, name in ipairs({'epoch', 'seq', 'run', 'wakes_at', 'past_epoch'}) do
      seen[name] = before[name]
    end
    seen.heard_at = now
    local number = commit(job, last, log, before, replace(before, seen))
    redis.call('ZADD', RECENT, number, job)
    if not record then redis.call('HSET', last, 'past_epoch', epoch) end
  end
  at, key = at + 3 + 2 * fields, key + 2
end
