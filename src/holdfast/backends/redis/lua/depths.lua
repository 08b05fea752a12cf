-- How many jobs are in each queue: queues, then a list of numbers for each: waiting, delayed, running, dead, and 1 if there
-- are more. What lies in lanes is counted as a whole; of those that run, are dead, or wait behind gates, so many are looked at.
-- ARGV: now, how many.
local now, most = ARGV[1], tonumber(ARGV[2])
local names, found = {}, {}
local function numbers(name)
  if not found[name] then
    found[name] = {0, 0, 0, 0, 0}
    names[#names + 1] = name
  end
  return found[name]
end
local function queue_of(lane) return string.sub(lane, string.find(lane, ':', 1, true) + 1) end
for _, lane in ipairs(call('ZRANGE', LANES, 0, -1)) do
  local all = call('ZCARD', LANE .. lane)
  if all > 0 then
    local into, due = numbers(queue_of(lane)), call('ZCOUNT', LANE .. lane, '-inf', now)
    into[1] = into[1] + due
    into[2] = into[2] + all - due
  end
end
local function add(ids, place)
  local some = {}
  for i = 1, math.min(#ids, most) do some[i] = ids[i] end
  for _, blob in ipairs(many('HMGET', JOB, some)) do
    if blob then
      local into = numbers(queue_of(head_of(blob)[1]))
      into[place] = into[place] + 1
      if #ids > most then into[5] = 1 end
    end
  end
end
local behind = {}
for i, id in ipairs(call('HKEYS', GATED)) do
  if i > most then
    behind[#behind + 1] = false
    break
  end
  local gate = cjson.decode(call('HGET', GATED, id))
  if call('ZSCORE', BEHIND .. gate[5], gate[1]) then behind[#behind + 1] = id end
end
add(behind, 1)
add(call('HKEYS', HELD), 3)
add(call('ZREVRANGE', DEAD, 0, most), 4)
local rows = {}
for i, name in ipairs(names) do rows[i] = found[name] end
return {names, rows}
