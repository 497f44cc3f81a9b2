-- A node says which server it talks to. If that is another one than before (a replica was
-- promoted, or Redis was restarted), writes may have been lost, and what was written since
-- may have got the positions of the lost ones. So an era begins: every record of an older
-- epoch gets a new one when it is next touched or read, and no position that anybody has
-- seen is ever given again.
--
-- If no server is known, Redis is new or was flushed, and so are all records; an era
-- begins only if its clock went back, which shows in the newest epoch a node has seen.
--
-- ARGV  4 the server's identity  5 the newest epoch seen
--
-- Answers where the present era begins.

local IDENTITY, SEEN = ARGV[4], tonumber(ARGV[5])

local known = redis.call('HGET', COUNTERS, 'server')
if known ~= IDENTITY then
  redis.call('HSET', COUNTERS, 'server', IDENTITY)
  if known or SEEN > newest_epoch then
    newest_epoch = math.max(newest_epoch, SEEN)
    ERA = tonumber(next_epoch())
    redis.call('HSET', COUNTERS, 'era', whole(ERA))
  end
end
return ERA
