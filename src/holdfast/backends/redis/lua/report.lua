-- Keep how far jobs are that this worker holds. ARGV: worker, then id and what is said for each.
local worker = ' ' .. ARGV[1] .. ' '
for i = 2, #ARGV, 2 do
  local row = call('HGET', HELD, ARGV[i])
  local first = row and string.find(row, ' ', 1, true)
  if row and string.sub(row, first, first + #worker - 1) == worker then call('HSET', PROGRESS, ARGV[i], ARGV[i + 1]) end
end
return true
