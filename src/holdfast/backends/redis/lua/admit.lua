-- Let held jobs through their gates, as far as these have room. Answers those that may run; the others are held no more.
-- Nothing where the lease is gone. ARGV: worker, now, then id and fence of each, in the order of their gates.
local worker, now = ARGV[1], tonumber(ARGV[2])
if not call('ZSCORE', LEASES, worker) then return false end

-- How many jobs come before this one, as far as the limit: those that run, and those that were sent before it and are due.
local function before(gate, limit)
  local count = 0
  local rank = call('ZRANK', GATE .. gate[5], gate[1])
  for from = 0, rank - 1, 100 do
    for _, place in ipairs(call('ZRANGE', GATE .. gate[5], from, math.min(from + 99, rank - 1))) do
      local id = id_at(place)
      local counts = call('HEXISTS', HELD, id) == 1 or call('ZSCORE', BEHIND .. gate[5], place)
      if not counts then
        local due = call('ZSCORE', LANE .. head_of(call('HGET', JOB, id))[1], id)
        counts = due and tonumber(due) <= now
      end
      if counts then count = count + 1 end
      if count >= limit then return count end
    end
  end
  for _, id in ipairs(call('SMEMBERS', INSIDE .. gate[5])) do
    if cjson.decode(call('HGET', GATED, id))[1] > gate[1] then count = count + 1 end
  end
  return count
end

-- When a job may begin by its gate's rate; from then on its moment counts as taken.
local function moment_of(id, gate)
  local interval = gate[3]
  if interval == cjson.null or call('SADD', PAID, id) == 0 then return now end
  local moment = now - (gate[4] - 1) * interval
  local known = tonumber(call('GET', RATE .. gate[5]) or moment)
  if known > moment then moment = known end
  local kept = math.max(0, math.ceil((moment + interval - now) * 1000)) + 60000
  call('SET', RATE .. gate[5], string.format('%.17g', moment + interval), 'PX', kept)
  return moment
end

local function go_back(id, fence, due)
  call('HDEL', HELD, id)
  call('SREM', HELD_BY .. worker, id)
  local _, attempt, losses, error, replayed = read_past(call('HGET', PAST, id))
  write_past(id, string.match(fence, '^%d+'), attempt, losses, due, replayed, error)
end

local through = {}
for i = 3, #ARGV, 2 do
  local id, fence = ARGV[i], ARGV[i + 1]
  local held, row = call('HGET', HELD, id), call('HGET', GATED, id)
  if held and row and string.sub(held, 1, #fence) == fence then
    local gate = cjson.decode(row)
    if gate[2] ~= cjson.null and before(gate, gate[2]) >= gate[2] then
      go_back(id, fence, ARGV[2])
      call('ZADD', BEHIND .. gate[5], 0, gate[1])
    else
      local moment = moment_of(id, gate)
      if moment <= now then
        call('SADD', INSIDE .. gate[5], id)
        through[#through + 1] = id
      else
        local due = string.format('%.17g', moment)
        go_back(id, fence, due)
        queue(head_of(call('HGET', JOB, id))[1], due, id)
      end
    end
  end
end
return through
