-- What comes before every script. KEYS[1] is what all keys begin with: one hash tag, so that they lie in one slot.
--
-- A job is one field of `job`, written once. Besides it is in exactly one of these places:
--   lane:<priority>:<queue>  sorted by when it is due, while nobody holds it
--   held, held:<worker>      while a worker holds it, with the number of the claim, the worker and the claim's ticket
--   ended                    with its outcome; then also in `kept`, sorted by until when, or `dead`, sorted by when sent
-- `past` has what became of it so far ("claims attempt losses due replayed\n=error"), `waiter` who waits for it,
-- `unique` and `text` lead from its unique text to it and back while it has not ended, `asked` are those held that
-- somebody asked to end. `leases` has the workers by when their leases end, `worker` what they said of themselves,
-- `waits` those that wait for jobs, `lanes` the lanes that may hold a job by priority. `progress` is how far jobs are,
-- `paused` since when queues are.
-- A job with a gate has [place, limit, interval, burst, gate] in `gated` while it has not ended, and its place in `gate:<gate>`.
-- Places sort as texts, and end with the job's id. It is in `inside:<gate>` while it runs, and its place is in
-- `behind:<gate>`, instead of its lane, while it waits there. `paid` are those whose moment was reckoned by the gate's
-- rate already, `rate:<gate>` when the next one may begin.
-- Moments stay texts: a number of Lua loses microseconds when it is written.
local K = KEYS[1] .. ':'
local JOB, PAST, ENDED, WAITER = K .. 'job', K .. 'past', K .. 'ended', K .. 'waiter'
local UNIQUE, TEXT = K .. 'unique', K .. 'text'
local LANES, LANE = K .. 'lanes', K .. 'lane:'
local HELD, HELD_BY, ASKED = K .. 'held', K .. 'held:', K .. 'asked'
local KEPT, DEAD = K .. 'kept', K .. 'dead'
local LEASES, WORKER, WAITS = K .. 'leases', K .. 'worker', K .. 'waits'
local PROGRESS, PAUSED = K .. 'progress', K .. 'paused'
local GATED, GATE, BEHIND, INSIDE = K .. 'gated', K .. 'gate:', K .. 'behind:', K .. 'inside:'
local PAID, RATE = K .. 'paid', K .. 'rate:'
local call = redis.call

-- A command for many values, in as many calls as Lua's stack wants; answers that are lists are put together.
local function many(command, key, values)
  local answers = {}
  for from = 1, #values, 4000 do
    local answer = call(command, key, unpack(values, from, math.min(from + 3999, #values)))
    if type(answer) == 'table' then
      for i = 1, math.min(4000, #values - from + 1) do answers[from + i - 1] = answer[i] end
    end
  end
  return answers
end

-- ARGV from one place on, so many of them.
local function arguments(from, count)
  local list = {}
  for i = 1, count do list[i] = ARGV[from + i - 1] end
  return list
end

-- The one of a job's two places that a row names: lane, name, created_at and so on.
local function head_of(blob)
  return cjson.decode(string.sub(blob, 1, string.find(blob, '\n', 1, true) - 1))
end

local function queue(lane, due, id)
  call('ZADD', LANES, -tonumber(string.match(lane, '^%-?%d+')), lane)
  call('ZADD', LANE .. lane, due, id)
end

-- The id with which a place at a gate ends.
local function id_at(place) return string.sub(place, 31) end

local function enter(id, gate)
  call('HSET', GATED, id, cjson.encode(gate))
  call('ZADD', GATE .. gate[5], 0, gate[1])
end

-- Let so many jobs be claimed that wait behind a gate; answers how many there were.
local function let_through(gate, count)
  for i = 1, count do
    local first = call('ZPOPMIN', BEHIND .. gate)
    if #first == 0 then return i - 1 end
    local id = id_at(first[1])
    local head = head_of(call('HGET', JOB, id))
    queue(head[1], string.format('%.17g', head[3]), id)
  end
  return count
end

-- A job runs no more, so that the next one at its gate can; answers how many can. `over`: it does not come again.
local function leave(id, over)
  local row = call('HGET', GATED, id)
  if not row then return 0 end
  local gate = cjson.decode(row)
  call('SREM', INSIDE .. gate[5], id)
  if over then
    call('SREM', PAID, id)
    call('HDEL', GATED, id)
    call('ZREM', GATE .. gate[5], gate[1])
    call('ZREM', BEHIND .. gate[5], gate[1])
  end
  return let_through(gate[5], 1)
end

-- A past as claims, attempt, losses, the error with its mark, and whether it was replayed.
local function read_past(row)
  if not row then return 0, 1, 0, '', '0' end
  local claims, attempt, losses, replayed, error = string.match(row, '^(%d+) (%d+) (%d+) %S+ (%d)\n(.*)$')
  return tonumber(claims), tonumber(attempt), tonumber(losses), error, replayed
end

local function write_past(id, claims, attempt, losses, due, replayed, error)
  call('HSET', PAST, id, claims .. ' ' .. attempt .. ' ' .. losses .. ' ' .. due .. ' ' .. replayed .. '\n' .. error)
end

-- Accept those of the jobs told from `at` on that are new: id, blob, lane, priority, due, unique text, waiter, gate each.
local function put(at, count, wanted)
  local ids, new, blobs, lanes = {}, {}, {}, {}
  for i = 0, count - 1 do ids[i + 1] = ARGV[at + 8 * i] end
  local there = many('HMGET', JOB, ids)
  for i = 0, count - 1 do
    local id, blob, lane, priority, due, unique, waiter, gate = unpack(ARGV, at + 8 * i, at + 8 * i + 7)
    local free = not there[i + 1] and (not wanted or wanted[i + 1])
    if free and unique ~= '' then
      free = call('HSETNX', UNIQUE, unique, id) == 1
      if free then call('HSET', TEXT, id, unique) end
    end
    if free then
      new[#new + 1] = id
      blobs[#blobs + 1] = id
      blobs[#blobs + 1] = blob
      local members = lanes[lane]
      if not members then
        members = {}
        lanes[lane] = members
        call('ZADD', LANES, -tonumber(priority), lane)
      end
      members[#members + 1] = due
      members[#members + 1] = id
      if waiter ~= '' then call('HSET', WAITER, id, waiter) end
      if gate ~= '' then enter(id, cjson.decode(gate)) end
    end
  end
  many('HSET', JOB, blobs)
  for lane, members in pairs(lanes) do many('ZADD', LANE .. lane, members) end
  return new
end

-- Wake those who wait for jobs.
local function wake(channel)
  if call('EXISTS', WAITS) == 1 then call('PUBLISH', channel, '') end
end

-- These jobs have ended: nobody waits for them any more, and their unique texts are free. Who waited comes as two lists,
-- and then how many jobs can be claimed that waited behind their gates.
local function let_go(ids)
  local waiting, channels = {}, {}
  for i, told in ipairs(many('HMGET', WAITER, ids)) do
    if told then
      waiting[#waiting + 1] = ids[i]
      channels[#channels + 1] = told
    end
  end
  many('HDEL', WAITER, waiting)
  if call('EXISTS', TEXT) == 1 then
    for i, unique in ipairs(many('HMGET', TEXT, ids)) do
      if unique then
        call('HDEL', UNIQUE, unique)
        call('HDEL', TEXT, ids[i])
      end
    end
  end
  if call('EXISTS', ASKED) == 1 then many('SREM', ASKED, ids) end
  local through = 0
  if call('EXISTS', GATED) == 1 then
    for _, id in ipairs(ids) do through = through + leave(id, true) end
  end
  return waiting, channels, through
end

-- Nothing remains of these jobs.
local function remove(ids)
  many('HDEL', JOB, ids)
  many('HDEL', PAST, ids)
  many('HDEL', ENDED, ids)
  if call('EXISTS', PROGRESS) == 1 then many('HDEL', PROGRESS, ids) end
end

-- A job that nobody holds was cancelled. `keep` is until when it is kept, or nothing.
local function cancelled(id, at, keep)
  if keep == '' then
    remove({id})
  else
    call('HSET', ENDED, id, '["cancelled",' .. at .. ',null]\n')
    call('ZADD', KEPT, keep, id)
  end
end

-- Say to each channel in these texts, which name several apart by spaces, that something has ended.
local function tell(prefix, channels)
  for _, told in ipairs(channels) do
    for channel in string.gmatch(told, '%S+') do call('PUBLISH', prefix .. channel, '') end
  end
end

-- What this worker held goes back; its lease ends. Whoever asked to cancel a job has what he wanted: it runs no more.
local function relieve(worker, lost, now, keep, prefix)
  local ids = call('SMEMBERS', HELD_BY .. worker)
  local ended = {}
  local gated = call('EXISTS', GATED) == 1
  for _, id in ipairs(ids) do
    if call('SISMEMBER', ASKED, id) == 1 then
      ended[#ended + 1] = id
      cancelled(id, now, keep)
    else
      local claims = string.match(call('HGET', HELD, id), '^%d+')
      local _, attempt, losses, error, replayed = read_past(call('HGET', PAST, id))
      write_past(id, claims, attempt, losses + lost, now, replayed, error)
      queue(head_of(call('HGET', JOB, id))[1], now, id)
      local row = gated and call('HGET', GATED, id)
      if row then call('SREM', INSIDE .. cjson.decode(row)[5], id) end
    end
  end
  many('HDEL', HELD, ids)
  local _, channels = let_go(ended)
  tell(prefix, channels)
  call('DEL', HELD_BY .. worker)
  call('ZREM', LEASES, worker)
  call('HDEL', WORKER, worker)
  call('SREM', WAITS, worker)
  return #ids
end
