-- Write what became of jobs, and send what follows. Answers which were not this worker's any more, and who waited:
-- two lists of ids and channels; nothing where the lease is gone.
-- ARGV: worker, the channel of those who wait for jobs, and how many of each of these there are:
--   gone: id, fence     kept: id, fence, status, until when, row
--   back: id, fence, when due, whether an attempt was spent, until when it is kept if it was cancelled, error
--   follow: the ids that all of them follow from, then for each what `send` takes
local worker, channel = ARGV[1], ARGV[2]
local gone, kept, back, follow = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if not call('ZSCORE', LEASES, worker) then return false end
local ids, places = {}, {}
local at = 7
local function read(count, width)
  for _ = 1, count do
    ids[#ids + 1] = ARGV[at]
    places[#places + 1] = at
    at = at + width
  end
end
read(gone, 2)
read(kept, 5)
read(back, 6)
local mine, holds, lost = {}, {}, {}
for i, row in ipairs(many('HMGET', HELD, ids)) do
  local fence = ARGV[places[i] + 1]
  if row and string.sub(row, 1, #fence) == fence then
    mine[#mine + 1] = ids[i]
    holds[ids[i]] = true
  else
    lost[#lost + 1] = ids[i]
  end
end
many('HDEL', HELD, mine)
many('SREM', HELD_BY .. worker, mine)

local ended, removed, rows, until_when = {}, {}, {}, {}
for i = 1, gone do
  if holds[ids[i]] then
    removed[#removed + 1] = ids[i]
    ended[#ended + 1] = ids[i]
  end
end
for i = gone + 1, gone + kept do
  local id, place = ids[i], places[i]
  if holds[id] then
    ended[#ended + 1] = id
    rows[#rows + 1] = id
    rows[#rows + 1] = ARGV[place + 4]
    if ARGV[place + 2] == 'dead' then
      call('ZADD', DEAD, string.format('%.17g', head_of(call('HGET', JOB, id))[3]), id)
    else
      until_when[#until_when + 1] = ARGV[place + 3]
      until_when[#until_when + 1] = id
    end
  end
end
local queued, gated, through = false, call('EXISTS', GATED) == 1, 0
for i = gone + kept + 1, #ids do
  local id, place = ids[i], places[i]
  if holds[id] then
    local _, attempt, losses, error, replayed = read_past(call('HGET', PAST, id))
    local spent = ARGV[place + 3] == '1'
    if spent then
      attempt, losses = attempt + 1, 0
    end
    if gated then
      if spent then call('SREM', PAID, id) end
      through = through + leave(id, false)
    end
    if ARGV[place + 5] ~= '' then error = ARGV[place + 5] end
    write_past(id, string.match(ARGV[place + 1], '^%d+'), attempt, losses, ARGV[place + 2], replayed, error)
    if call('SISMEMBER', ASKED, id) == 1 then
      -- It was to be tried again, and meanwhile cancelled.
      ended[#ended + 1] = id
      cancelled(id, ARGV[place + 2], ARGV[place + 4])
    else
      queued = true
      queue(head_of(call('HGET', JOB, id))[1], ARGV[place + 2], id)
    end
  end
end
many('HDEL', JOB, removed)
many('HDEL', PAST, removed)
if call('EXISTS', PROGRESS) == 1 then many('HDEL', PROGRESS, removed) end
many('HSET', ENDED, rows)
many('ZADD', KEPT, until_when)
local waiting, channels = {}, {}
if #ended > 0 then
  local opened
  waiting, channels, opened = let_go(ended)
  through = through + opened
end

if follow > 0 then
  local wanted = {}
  for i = 1, follow do wanted[i] = holds[ARGV[at + i - 1]] or false end
  queued = #put(at + follow, follow, wanted) > 0 or queued
end
if queued or through > 0 then wake(channel) end
return {lost, waiting, channels}
