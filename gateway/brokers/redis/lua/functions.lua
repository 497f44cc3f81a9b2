-- A function for every Redis client, without any code of the gateway:
--
--   FCALL progress 1 <prefix> <job> [<field> <value>]…
--   FCALL progress 1 progress video:42 done 37 total 1200 message "encoding"
--
-- The fields are those of docs/protocol.md, Update, as plain text; `clear <field>` clears
-- one. All keys begin with the prefix, so in a cluster its hash tag selects the server.
-- Returns epoch, seq, attempt, applied (1 or 0) and reason, each after its name, and for some
-- reasons `detail`, a sentence. An error names the invalid argument; then nothing has changed.

local CLEARABLE = {
  percent = 1, done = 1, total = 1, unit = 1, phase = 1, message = 1, error = 1, data = 1,
  children = 1, weight = 1, lease = 1, accepts = 1,
}

-- Well-formed UTF-8 (Unicode, table 3-7), character by character.
local CHARACTERS = {
  '^[%z\1-\127]', '^[\194-\223][\128-\191]',
  '^\224[\160-\191][\128-\191]', '^[\225-\236\238\239][\128-\191][\128-\191]',
  '^\237[\128-\159][\128-\191]', '^\240[\144-\191][\128-\191][\128-\191]',
  '^[\241-\243][\128-\191][\128-\191][\128-\191]', '^\244[\128-\143][\128-\191][\128-\191]',
}

-- Returns the number of characters of a text; nil if it is not UTF-8.
local function characters(text)
  local at, n = 1, 0
  while at <= #text do
    local last
    for _, pattern in ipairs(CHARACTERS) do
      _, last = string.find(text, pattern, at)
      if last then break end
    end
    if not last then return nil end
    at, n = last + 1, n + 1
  end
  return n
end

local function number(least, most, whole)
  local form = whole and '^%d+$' or '^-?%d*%.?%d*[eE]?[+-]?%d*$'
  return function(text)
    local value = string.find(text, form) and tonumber(text)
    if not value or value < least or value > most then
      local kind = whole and 'a whole number' or 'a number'
      return string.format('must be %s from %.16g to %.16g', kind, least, most)
    end
  end
end

local function text(most)
  return function(value)
    local n = characters(value)
    if not n or n > most then return string.format('must be UTF-8 of at most %d characters', most) end
  end
end

local function job_id(value)
  local valid = #value <= MAX_JOB_ID
  for segment in string.gmatch(value .. '/', '([^/]*)/') do
    valid = valid and string.find(segment, JOB_ID_SEGMENT) and segment ~= '.' and segment ~= '..'
  end
  if not valid then return 'must be a job id: ' .. JOB_ID_RULE end
end

local function traceparent(value)
  local trace, span = string.match(value, TRACEPARENT)
  if not trace or not string.find(trace, '[^0]') or not string.find(span, '[^0]') then
    return 'must be a traceparent (W3C Trace Context, version 00)'
  end
end

local function is_literal(word)
  if word == 'true' or word == 'false' or word == 'null' then return true end
  local digits, rest = string.match(word, '^-?(%d+)(.*)$')
  return digits and not string.find(digits, '^0%d')
    and (rest == '' or string.find(rest, '^%.%d+$') or string.find(rest, '^[eE][+-]?%d+$')
      or string.find(rest, '^%.%d+[eE][+-]?%d+$'))
end

-- Returns JSON text without the white space between its tokens, and its depth; nil if a string
-- contains control characters, or does not end.
local function compact(value)
  local parts, at, depth, deepest = {}, 1, 0, 0
  while at <= #value do
    local quote = string.find(value, '"', at, true)
    local between = string.gsub(string.sub(value, at, (quote or 0) - 1), '[ \t\r\n]+', ' ')
    for bracket in string.gmatch(between, '[%[%]{}]') do
      depth = depth + ((bracket == '[' or bracket == '{') and 1 or -1)
      deepest = math.max(deepest, depth)
    end
    parts[#parts + 1] = string.gsub(between, ' ?([%[%]{},:]) ?', '%1')
    if not quote then break end
    local last = quote + 1
    while string.byte(value, last) ~= 34 do
      if last > #value then return nil end
      last = string.find(value, '["\\]', last) or #value + 1
      if string.byte(value, last) == 92 then last = last + 2 end
    end
    parts[#parts + 1] = string.sub(value, quote, last)
    at = last + 1
  end
  local text = table.concat(parts)
  if string.find(text, '[%z\1-\31]') then return nil end
  return string.match(text, '^ ?(.-) ?$'), deepest
end

-- cjson accepts more than JSON, so the text outside of strings is checked too. cjson must not be
-- called for a text that nests too deeply.
local function json(value)
  local text, depth = compact(value)
  if text and depth > MAX_DATA_DEPTH then
    return string.format('must be JSON of at most %d nested arrays and objects', MAX_DATA_DEPTH)
  end
  local valid, values = false, nil
  if text then valid, values = pcall(cjson.decode, '[' .. text .. ']') end
  valid = valid and #values == 1 and #text <= MAX_DATA_BYTES and characters(text)
  local outside = string.gsub(string.gsub(text or '', '\\.', ''), '"[^"]*"', ' ')
  for word in string.gmatch(outside, '[^%[%]{},:%s]+') do valid = valid and is_literal(word) end
  if not valid then return string.format('must be JSON of at most %d bytes', MAX_DATA_BYTES) end
  return nil, text
end

-- Converts a list of verbs to the text that the record stores.
local function verbs(value)
  local found = {}
  for verb in string.gmatch(value, '[^,]+') do
    if not string.find(verb, '^%l[%l%d_-]*$') or #verb > MAX_VERB then found = nil break end
    found[#found + 1] = '"' .. verb .. '"'
  end
  if not found or #found > MAX_ACCEPTS then
    return string.format('must be at most %d verbs, divided by commas', MAX_ACCEPTS)
  end
  return nil, '[' .. table.concat(found, ',') .. ']'
end

local CHECKS = {
  status = function(value)
    if not RANK[value] then return 'must be one of ' .. STATUSES end
  end,
  start = function(value) if value ~= '1' then return 'must be 1' end end,
  clear = function(value) if not CLEARABLE[value] then return value .. ' cannot be cleared' end end,
  part = function(value)
    if #value > MAX_PART or not string.find(value, PART) then
      return string.format('must be 1-%d characters of A-Z a-z 0-9 _ . : / @ -', MAX_PART)
    end
  end,
  run = function(value) if value == '' then return 'must not be empty' end return text(MAX_RUN)(value) end,
  attempt = number(1, MAX_NUMBER, true),
  age = number(0, MAX_AGE),
  percent = number(0, 100),
  done = number(0, MAX_NUMBER), total = number(0, MAX_NUMBER), lease = number(MIN_LEASE, MAX_LEASE),
  unit = text(MAX_UNIT), phase = text(MAX_PHASE), message = text(MAX_MESSAGE), error = text(MAX_ERROR),
  ack = text(MAX_REQUEST_ID), refused = text(MAX_REFUSED), accepts = verbs,
  children = number(0, MAX_EXPECTED), weight = number(MIN_WEIGHT, MAX_WEIGHT),
  data = json, traceparent = traceparent,
}

redis.register_function('progress', function(keys, args)
  local prefix, job = keys[1], args[1]
  if #keys ~= 1 then return redis.error_reply('INVALID the one key must be the prefix') end
  local problem = job_id(job or '')
  if problem then return redis.error_reply('INVALID job ' .. problem) end
  for i = 2, #args, 2 do
    local check = CHECKS[args[i]]
    if not check then return redis.error_reply('INVALID there is no field ' .. args[i]) end
    if not args[i + 1] then return redis.error_reply('INVALID ' .. args[i] .. ' has no value') end
    local problem, value = check(args[i + 1])
    if problem then return redis.error_reply('INVALID ' .. args[i] .. ' ' .. problem) end
    if args[i] == 'accepts' then args[i + 1] = value end
    if args[i] == 'data' then
      if value == 'null' then args[i], args[i + 1] = 'clear', 'data' else args[i + 1] = value end
    end
  end

  local names = {}
  for i, name in ipairs({'feed', 'leases', 'recent', 'counters', 'last:' .. job, 'log:' .. job}) do
    names[i] = prefix .. ':' .. name
  end
  local published = publish(names, {'', unpack(args)})
  if published.err then return published end
  local result = {'epoch', published[1], 'seq', published[2], 'attempt', published[3],
                'applied', published[4] == '' and 1 or 0, 'reason', published[4]}
  if HINTS[published[4]] then
    result[#result + 1], result[#result + 2] = 'detail', HINTS[published[4]]
  end
  return result
end)
