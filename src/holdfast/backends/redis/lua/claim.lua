-- Hold due jobs, those of the highest priority first. Answers when the next one is due, ids, blobs and pasts; nothing
-- where the lease is gone.
-- ARGV: worker, ticket, now, room, then the queues, or `*` for all.
local worker, ticket, now, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if not call('ZSCORE', LEASES, worker) then return false end
local all, wanted = false, {}
for i = 5, #ARGV do
  all = all or ARGV[i] == '*'
  wanted[ARGV[i]] = true
end
local due_at, next_due = tonumber(now), false
local heads = {}
local function look(lane, priority)
  local head = call('ZRANGE', LANE .. lane, 0, 0, 'WITHSCORES')
  if #head == 0 then
    call('ZREM', LANES, lane)
  elseif tonumber(head[2]) <= due_at then
    return {lane, priority, tonumber(head[2])}
  elseif not next_due or tonumber(head[2]) < tonumber(next_due) then
    next_due = head[2]
  end
end
local lanes = call('ZRANGE', LANES, 0, -1, 'WITHSCORES')
local some_paused = call('EXISTS', PAUSED) == 1
for i = 1, #lanes, 2 do
  local lane = lanes[i]
  local name = string.sub(lane, string.find(lane, ':', 1, true) + 1)
  if (all or wanted[name]) and not (some_paused and call('HEXISTS', PAUSED, name) == 1) then
    heads[#heads + 1] = look(lane, tonumber(lanes[i + 1]))
  end
end
table.sort(heads, function(one, other)
  if one[2] ~= other[2] then return one[2] < other[2] end
  return one[3] < other[3]
end)
local ids = {}
for _, head in ipairs(heads) do
  if #ids >= room then break end
  local got = call('ZRANGEBYSCORE', LANE .. head[1], '-inf', now, 'LIMIT', 0, room - #ids)
  if #got > 0 then call('ZREMRANGEBYRANK', LANE .. head[1], 0, #got - 1) end
  for _, id in ipairs(got) do ids[#ids + 1] = id end
  if #ids < room then look(head[1], head[2]) end
end
if #ids == 0 then return {next_due, {}, {}, {}} end
local blobs, pasts = many('HMGET', JOB, ids), many('HMGET', PAST, ids)
local held = {}
for i, id in ipairs(ids) do
  held[2 * i - 1] = id
  held[2 * i] = (read_past(pasts[i]) + 1) .. ' ' .. worker .. ' ' .. ticket
end
many('HSET', HELD, held)
many('SADD', HELD_BY .. worker, ids)
return {next_due, ids, blobs, pasts}
