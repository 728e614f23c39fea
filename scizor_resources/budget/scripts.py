"""The steps that Valkey makes at once for all processes.

The algorithms are pyrate-limiter's: its sliding log (`RedisBucket`'s script) counts, its GCRA
spreads. Both scripts are taken from the library and put as functions into one of ours, for two
reasons. The library passes the client's clock to them, and a client that is held up between
reading its clock and calling is not seen by the log's count, which ends at that time, so more than
the limit could be granted; here the clock is Valkey's own. And a grant is one step over several
logs (the provider's, an endpoint's, a key's), the lanes, the pause and the calls under way: what
one of them refuses, the others must not have counted.

A script gets its arguments as one JSON object, `ask`. Times are whole milliseconds since 1970.
"""

from pyrate_limiter import GCRA
from pyrate_limiter.buckets.redis_bucket import LuaScript

_CLOCK = """
local ask = cjson.decode(ARGV[1])
local now = ask.now
if not now then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local function text(number) return string.format('%.0f', number) end

-- Where the window begins: `milliseconds` ago, or at the month's first instant.
local function began(window)
  if not window.months then return now - window.milliseconds end
  local start = window.months[1]
  for _, month in ipairs(window.months) do
    if month <= now then start = month end
  end
  return start
end

local function ends(window)
  for _, month in ipairs(window.months) do
    if month > now then return month end
  end
  return now + window.milliseconds
end
"""

_ALGORITHMS = f"""
-- Both take a list of keys and a list of arguments, in the names that the library's text uses.
local function put_into_log(KEYS, ARGV)
{LuaScript.PUT_ITEM}
end

local function take_pace(KEYS, ARGV)
{GCRA().redis_script()}
end
"""

#: KEYS: the pause, then for each scope its log, pace, calls under way, and four queues.
#: Returns {outcome, milliseconds to wait, detail, number of the scope, now, strikes}.
ACQUIRE = (
    _CLOCK
    + _ALGORITHMS
    + """
local pause = redis.call('HMGET', KEYS[1], 'until', 'why', 'strikes')
local paused_until = tonumber(pause[1] or '0')
if paused_until > now then
  return {'paused', text(paused_until - now), pause[2] or '', 0, text(now), 0}
end

local undo = {}

-- Valkey's clock may have been set back: a few seconds are waited for by standing still, for more
-- the entries of the future are dropped, because otherwise they would count for hours.
for _, scope in ipairs(ask.scopes) do
  local log = KEYS[scope.first]
  local newest = redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')
  local newest_at = tonumber(newest[2] or '0')
  if newest_at > now then
    if newest_at - now <= 5000 then
      now = newest_at
    else
      redis.call('ZREMRANGEBYSCORE', log, '(' .. text(now), '+inf')
      redis.call('DEL', KEYS[scope.first + 1])
    end
  end
  redis.call('ZREM', KEYS[scope.first + 2 + ask.lane], ask.caller)
end

local function refuse(why, wait, number, detail)
  for i = #undo, 1, -1 do undo[i]() end
  local scope = ask.scopes[number]
  if scope.queued then
    local queue = KEYS[scope.first + 2 + ask.lane]
    redis.call('ZADD', queue, text(now + ask.patience), ask.caller)
    redis.call('PEXPIRE', queue, text(ask.patience + 60000))
  end
  return {why, text(math.max(1, math.ceil(wait))), tostring(detail), number, text(now), 0}
end

for number, scope in ipairs(ask.scopes) do
  local log, pace, running = KEYS[scope.first], KEYS[scope.first + 1], KEYS[scope.first + 2]

  if scope.queued then
    for lane = 1, ask.lane - 1 do
      local queue = KEYS[scope.first + 2 + lane]
      redis.call('ZREMRANGEBYSCORE', queue, '-inf', text(now))
      if redis.call('ZCARD', queue) > 0 then
        return refuse('lane', ask.poll, number, lane)
      end
    end
  end

  if scope.concurrency then
    redis.call('ZREMRANGEBYSCORE', running, '-inf', text(now))
    if redis.call('ZCARD', running) >= scope.concurrency then
      return refuse('concurrency', ask.poll, number, scope.concurrency)
    end
  end

  local windows = scope.windows
  if #windows > 0 then
    local arguments = {text(now), scope.weight, ask.caller .. ':', #windows}
    local earliest, longest = now, 0
    for _, window in ipairs(windows) do
      local start = began(window)
      earliest = math.min(earliest, start)
      longest = math.max(longest, window.milliseconds)
      table.insert(arguments, text(start))
      table.insert(arguments, window.limit)
      -- Of the newest entries, the one that has to leave the window to make room.
      table.insert(arguments, window.limit - scope.weight)
    end
    redis.call('ZREMRANGEBYSCORE', log, '-inf', '(' .. text(earliest))
    local verdict = put_into_log({log}, arguments)
    if verdict[1] >= 0 then
      local window = windows[verdict[1] + 1]
      local wait = window.milliseconds
      if window.months then
        wait = ends(window) - now
      elseif verdict[2] >= 0 then
        wait = verdict[2] + window.milliseconds - now + 1
      end
      return refuse('window', wait, number, verdict[1])
    end
    redis.call('PEXPIRE', log, text(longest + 60000))
    table.insert(undo, function()
      for i = 1, scope.weight do redis.call('ZREM', log, ask.caller .. ':' .. i) end
    end)
  end

  if #scope.pace > 0 then
    local before = redis.call('HGETALL', pace)
    local arguments = {text(now), scope.weight, text(scope.pace_milliseconds), #scope.pace / 2}
    for _, value in ipairs(scope.pace) do table.insert(arguments, value) end
    local verdict = take_pace({pace}, arguments)
    if verdict[1] >= 0 then return refuse('pace', verdict[2], number, verdict[1]) end
    table.insert(undo, function()
      redis.call('DEL', pace)
      if #before > 0 then
        redis.call('HSET', pace, unpack(before))
        redis.call('PEXPIRE', pace, text(scope.pace_milliseconds))
      end
    end)
  end
end

for _, scope in ipairs(ask.scopes) do
  if scope.concurrency then
    local running = KEYS[scope.first + 2]
    redis.call('ZADD', running, text(now + ask.lease), ask.caller)
    redis.call('PEXPIRE', running, text(ask.lease + 60000))
  end
end
return {'granted', '0', '', 0, text(now), tonumber(pause[3] or '0')}
"""
)

#: KEYS: sorted sets of callers (queues, calls under way) to leave.
LEAVE = """
for _, key in ipairs(KEYS) do redis.call('ZREM', key, ARGV[1]) end
return 0
"""

#: KEYS: sets of calls under way that go on.
RENEW = (
    _CLOCK
    + """
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, 'XX', text(now + ask.lease), ask.caller)
  redis.call('PEXPIRE', key, text(ask.lease + 60000))
end
return 0
"""
)

#: KEYS: the pause. A call that was granted after the last pause had ended came through.
SUCCEEDED = """
local until_ = tonumber(redis.call('HGET', KEYS[1], 'until') or '0')
if tonumber(ARGV[1]) >= until_ then redis.call('DEL', KEYS[1]) end
return 0
"""

#: KEYS: the pause. Returns when it ends.
PAUSE = (
    _CLOCK
    + """
local found = redis.call('HMGET', KEYS[1], 'until', 'strikes')
local until_, strikes = tonumber(found[1] or '0'), tonumber(found[2] or '0')
local running = until_ > now
local length = ask.milliseconds
if not length then
  -- Calls that were under way together are refused together; that is one refusal.
  if running then return text(until_) end
  length = math.min(ask.first * 2 ^ strikes, ask.longest)
end
if not running then strikes = strikes + 1 end
if now + length > until_ then
  until_ = now + length
  redis.call('HSET', KEYS[1], 'why', ask.why)
end
redis.call('HSET', KEYS[1], 'until', text(until_), 'strikes', text(strikes))
redis.call('PEXPIRE', KEYS[1], text(until_ - now + ask.remembered))
return text(until_)
"""
)

#: KEYS: the log. The provider says that less remains than we think: count what others used.
LEARN = (
    _CLOCK
    + _ALGORITHMS
    + """
local used = redis.call('ZCOUNT', KEYS[1], text(now - ask.milliseconds), '+inf')
local unseen = (ask.limit - used) - ask.remaining
if unseen <= 0 then return 0 end
local at = now
-- They leave our window when the provider's starts anew.
if ask.reset and ask.reset > now and ask.reset - ask.milliseconds < now then
  at = ask.reset - ask.milliseconds
end
put_into_log({KEYS[1]}, {text(at), unseen, ask.caller .. ':', 0})
redis.call('PEXPIRE', KEYS[1], text(ask.kept + 60000))
return unseen
"""
)

#: KEYS: a log. Calls that were made while nobody could count them here.
SPEND = (
    _CLOCK
    + _ALGORITHMS
    + """
put_into_log({KEYS[1]}, {text(now), ask.weight, ask.caller .. ':', 0})
redis.call('PEXPIRE', KEYS[1], text(ask.kept + 60000))
return ask.weight
"""
)

#: KEYS: as of ACQUIRE. Returns {now, until, why, {per scope: {waiting x 4, running,
#: {per window: used, when the next of them leaves}}}}.
STATE = (
    _CLOCK
    + """
local pause = redis.call('HMGET', KEYS[1], 'until', 'why')
local scopes = {}
for _, scope in ipairs(ask.scopes) do
  local line = {}
  for lane = 1, 4 do
    line[lane] = redis.call('ZCOUNT', KEYS[scope.first + 2 + lane], '(' .. text(now), '+inf')
  end
  line[5] = redis.call('ZCOUNT', KEYS[scope.first + 2], '(' .. text(now), '+inf')
  for _, window in ipairs(scope.windows) do
    local start = began(window)
    local used = redis.call('ZCOUNT', KEYS[scope.first], text(start), '+inf')
    local reset = 0
    if window.months then
      reset = ends(window)
    elseif used > 0 then
      local oldest = redis.call(
        'ZRANGEBYSCORE', KEYS[scope.first], text(start), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      reset = tonumber(oldest[2]) + window.milliseconds
    end
    table.insert(line, used)
    table.insert(line, text(reset))
  end
  table.insert(scopes, line)
end
return {text(now), pause[1] or '0', pause[2] or '', scopes}
"""
)
