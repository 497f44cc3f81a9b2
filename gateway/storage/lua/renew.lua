-- Give records of an earlier era a new epoch, as they are. Whoever reads such a record calls
-- this: its position may be one that somebody has seen with another state.
--
-- ARGV  4… the jobs, `last` and `log` of each being in KEYS

for i = 4, #ARGV do
  local last, log = KEYS[2 * i - 3], KEYS[2 * i - 2]
  local record = read(last)
  if record and past(record) then
    commit(ARGV[i], last, log, record, {})
  end
end
