-- Which of these jobs somebody asked to end, or this worker does not hold any more. ARGV: worker, then the ids.
local ids, unwanted = arguments(2, #ARGV - 1), {}
local worker = ' ' .. ARGV[1] .. ' '
local asked = call('EXISTS', ASKED) == 1
for i, row in ipairs(many('HMGET', HELD, ids)) do
  local first = row and string.find(row, ' ', 1, true)
  local mine = row and string.sub(row, first, first + #worker - 1) == worker
  if not mine or (asked and call('SISMEMBER', ASKED, ids[i]) == 1) then unwanted[#unwanted + 1] = ids[i] end
end
return unwanted
