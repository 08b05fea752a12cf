-- How many jobs there are of one kind. ARGV: all, queued, running, dead; for queued a queue, or nothing for all.
if ARGV[1] == 'all' then return call('HLEN', JOB) end
if ARGV[1] == 'running' then return call('HLEN', HELD) end
if ARGV[1] == 'dead' then return call('ZCARD', DEAD) end
local number = 0
for _, lane in ipairs(call('ZRANGE', LANES, 0, -1)) do
  if ARGV[2] == '' or string.sub(lane, string.find(lane, ':', 1, true) + 1) == ARGV[2] then
    number = number + call('ZCARD', LANE .. lane)
  end
end
return number
