-- How many jobs there are of one kind. ARGV: all, queued, running, dead; for queued a queue, or nothing for all.
if ARGV[1] == 'all' then return call('HLEN', JOB) end
if ARGV[1] == 'running' then return call('HLEN', HELD) end
if ARGV[1] == 'dead' then return call('ZCARD', DEAD) end
local number = 0
for _, id in ipairs(call('HKEYS', GATED)) do
  local gate = cjson.decode(call('HGET', GATED, id))
  if call('ZSCORE', BEHIND .. gate[5], gate[1]) then
    local lane = head_of(call('HGET', JOB, id))[1]
    if ARGV[2] == '' or string.sub(lane, string.find(lane, ':', 1, true) + 1) == ARGV[2] then number = number + 1 end
  end
end
for _, lane in ipairs(call('ZRANGE', LANES, 0, -1)) do
  if ARGV[2] == '' or string.sub(lane, string.find(lane, ':', 1, true) + 1) == ARGV[2] then
    number = number + call('ZCARD', LANE .. lane)
  end
end
return number
