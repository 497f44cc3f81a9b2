-- Give records of an earlier generation a new epoch, without other changes. It is called before
-- such a record is shown, because a client may have seen its position with another state.
--
-- ARGV  2… the jobs, `last` and `log` of each being in KEYS

for i = 2, #ARGV do
  local last, log = KEYS[2 * i + 1], KEYS[2 * i + 2]
  local record = read(last)
  if record and is_of_earlier_generation(record) then
    commit(ARGV[i], last, log, record, {})
  end
end
