-- For everybody who has a Redis client and nothing of ours:
--
--   FCALL progress 1 <prefix> <job> [<field> <value>]…
--   FCALL progress 1 progress video:42 done 37 total 1200 message "encoding"
--
-- The fields are those of docs/protocol.md, Update, as plain text; `clear <field>` clears
-- one. All keys begin with the prefix, so its hash tag, if it has one, finds the server.
-- Answers epoch, seq, attempt, applied (1 or 0) and reason, each after its name; an error
-- names what was wrong, and nothing has changed then.

local MAX_NUMBER = 2 ^ 53
local STATUSES = {queued = 1, running = 1, succeeded = 1, failed = 1, cancelled = 1}
local CLEARABLE = {
  done = 1, total = 1, unit = 1, phase = 1, message = 1, error = 1, data = 1, parent = 1, lease = 1,
}

-- Well-formed UTF-8 (Unicode, table 3-7), character by character.
local CHARACTERS = {
  '^[%z\1-\127]', '^[\194-\223][\128-\191]',
  '^\224[\160-\191][\128-\191]', '^[\225-\236\238\239][\128-\191][\128-\191]',
  '^\237[\128-\159][\128-\191]', '^\240[\144-\191][\128-\191][\128-\191]',
  '^[\241-\243][\128-\191][\128-\191][\128-\191]', '^\244[\128-\143][\128-\191][\128-\191]',
}

-- How many characters a text has; nil if it is not UTF-8.
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
  return function(text)
    local value = string.find(text, '^%d*%.?%d*[eE]?[+-]?%d*$') and tonumber(text)
    if not value or value < least or value > most or (whole and value ~= math.floor(value)) then
      local kind = whole and 'a whole number' or 'a number'
      return string.format('must be %s from %.0f to %.0f', kind, least, most)
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
  if #value < 1 or #value > 200 or string.find(value, '[^%w_.:/@-]') then
    return 'must be a job id: 1-200 characters of A-Z a-z 0-9 _ . : / @ -'
  end
end

local function traceparent(value)
  local trace, span = string.match(value, '^00%-([%da-f]+)%-([%da-f]+)%-[%da-f][%da-f]$')
  if not trace or #trace ~= 32 or #span ~= 16
    or not string.find(trace, '[^0]') or not string.find(span, '[^0]') then
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

-- cjson takes more than JSON has, so what stands outside of strings is looked at again.
local function json(value)
  local good, values = pcall(cjson.decode, '[' .. value .. ']')
  good = good and #values == 1 and #value <= 8192 and characters(value)
    and not string.find(value, '%c')
  local outside = string.gsub(string.gsub(value, '\\.', ''), '"[^"]*"', ' ')
  for word in string.gmatch(outside, '[^%[%]{},:%s]+') do good = good and is_literal(word) end
  if not good then return 'must be JSON of at most 8192 bytes, on one line' end
end

local CHECKS = {
  status = function(value)
    if not STATUSES[value] then return 'must be queued, running, succeeded, failed or cancelled' end
  end,
  start = function(value) if value ~= '1' then return 'must be 1' end end,
  clear = function(value) if not CLEARABLE[value] then return value .. ' cannot be cleared' end end,
  run = function(value) if value == '' then return 'must not be empty' end return text(64)(value) end,
  attempt = number(1, MAX_NUMBER, true),
  percent = number(0, 100),
  done = number(0, MAX_NUMBER), total = number(0, MAX_NUMBER), lease = number(1, 86400),
  unit = text(32), phase = text(200), message = text(1000), error = text(4000),
  parent = job_id, data = json, traceparent = traceparent,
}

redis.register_function('progress', function(keys, args)
  local prefix, job = keys[1], args[1]
  if #keys ~= 1 then return redis.error_reply('INVALID the one key must be the prefix') end
  local wrong = job_id(job or '')
  if wrong then return redis.error_reply('INVALID job ' .. wrong) end
  for i = 2, #args, 2 do
    local check = CHECKS[args[i]]
    if not check then return redis.error_reply('INVALID there is no field ' .. args[i]) end
    if not args[i + 1] then return redis.error_reply('INVALID ' .. args[i] .. ' has no value') end
    wrong = check(args[i + 1])
    if wrong then return redis.error_reply('INVALID ' .. args[i] .. ' ' .. wrong) end
  end

  local names = {}
  for i, name in ipairs({'feed', 'leases', 'recent', 'counters', 'last:' .. job, 'log:' .. job}) do
    names[i] = prefix .. ':' .. name
  end
  local answer = publish(names, {HISTORY, FEED_LENGTH, RETENTION, unpack(args)})
  return {'epoch', answer[1], 'seq', answer[2], 'attempt', answer[3],
          'applied', answer[4] == '' and 1 or 0, 'reason', answer[4]}
end)
