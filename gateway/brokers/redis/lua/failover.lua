-- A node registers that it follows this shard, and the identity of its server. If this is another
-- server than before (a replica was promoted, or Redis was restarted), writes may have been lost,
-- and later writes may have got the positions of the lost ones. So a new generation begins: every
-- record of an older epoch gets a new epoch when it is next changed or read, and no position that a
-- client has seen is used again.
--
-- If no server is registered, Redis is new, was flushed, or was promoted with a copy from before the
-- first node; workers may have written since. A generation begins if the node has followed the
-- shard before, because it may have shown states that are lost. The epochs on this server do not
-- show that, because a worker's newest epoch is larger than those that were shown. For the same
-- reason a generation begins if a node has followed another server before, and none has begun here:
-- the first node that has registered here was new.
--
-- A generation begins with a repair, which is named by an epoch of its own. The shard opens when all
-- nodes that were registered at the beginning have restored what they have shown; but not before
-- `MIN_RESTORE_TIME` (for nodes that are no longer registered), and after `GRACE` at the latest (for
-- nodes that have died). Then the generation's first epoch moves to that time: what a worker has
-- written during the repair may be older than what was shown, so no client may receive it.
--
-- ARGV  2 the server's identity  3 the newest epoch that the node has seen  4 the node
--       5 the repair for which the node has restored its states, or ''  6 history  7 retention
--       8 the server that the node has followed before, or ''
--
-- Returns the repair, the first epoch of the current generation, and 1 if the shard is open.

local IDENTITY, SEEN, NODE, RESTORED = ARGV[2], tonumber(ARGV[3]), 'node:' .. ARGV[4], ARGV[5]
local FOLLOWED = ARGV[8]

-- name of the field → when the node has registered, and for which repair it has restored its states
local function nodes()
  local registered, newest = {}, 0
  local flat = redis.call('HGETALL', COUNTERS)
  for i = 1, #flat, 2 do
    local seen_at, restored = string.match(flat[i + 1], '^(%S+) (%S*)$')
    if string.sub(flat[i], 1, 5) == 'node:' and tonumber(seen_at) then
      registered[flat[i]] = {seen_at = tonumber(seen_at), restored = restored}
      newest = math.max(newest, tonumber(seen_at))
    end
  end
  return registered, newest
end

local function begin_generation()
  local repair = next_epoch()
  redis.call('HSET', COUNTERS, 'generation', repair, 'repair', repair, 'repair_at', now,
             'repaired_server', IDENTITY)
  -- The nodes that were registered last must restore; times are this server's from now on.
  local registered, newest = nodes()
  for name, node in pairs(registered) do
    if newest - node.seen_at > NODE_TIMEOUT then
      redis.call('HDEL', COUNTERS, name)
    else
      redis.call('HSET', COUNTERS, name, now .. ' ' .. node.restored)
    end
  end
end

local servers = redis.call('HMGET', COUNTERS, 'server', 'repaired_server')
local previous, repaired_server = servers[1], servers[2]
local may_have_lost = previous or RESTORED ~= '' or SEEN > newest_epoch
-- No epoch that any node has seen is used again, whichever node comes first.
newest_epoch = math.max(newest_epoch, SEEN)
redis.call('HSET', COUNTERS, 'epoch', whole(newest_epoch))
if previous ~= IDENTITY then
  redis.call('HSET', COUNTERS, 'server', IDENTITY)
  if may_have_lost then begin_generation() end
elseif FOLLOWED ~= '' and FOLLOWED ~= IDENTITY and repaired_server ~= IDENTITY then
  begin_generation()
end
redis.call('HSET', COUNTERS, NODE, now .. ' ' .. RESTORED, 'history', ARGV[6], 'retention', ARGV[7])

local stored = redis.call('HMGET', COUNTERS, 'repair', 'generation', 'repair_at')
local repair, generation, began_at = stored[1] or '0', stored[2] or '0', stored[3]

-- Whether all registered nodes have restored their states. Nodes that have died are removed.
local function all_have_restored()
  local all = true
  for name, node in pairs((nodes())) do
    if math.abs(NOW - node.seen_at) > NODE_TIMEOUT then
      redis.call('HDEL', COUNTERS, name)
    elseif node.restored ~= repair then
      all = false
    end
  end
  return all
end

local restored, is_open = all_have_restored(), not began_at or generation ~= repair
if not is_open then
  if NOW < tonumber(began_at) then -- the clock was set back
    began_at = now
    redis.call('HSET', COUNTERS, 'repair_at', now)
  end
  local age = NOW - began_at
  is_open = age >= MIN_RESTORE_TIME and (restored or age >= GRACE)
  if is_open then
    generation = next_epoch()
    -- Leases start again, because the nodes could not renew them during the repair.
    redis.call('HSET', COUNTERS, 'generation', generation, 'leases_from', now)
  end
end
return {tonumber(repair), tonumber(generation), is_open and 1 or 0}
