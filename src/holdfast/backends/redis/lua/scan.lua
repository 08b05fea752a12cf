-- A portion of all jobs, without their messages and outcomes: where to go on, ids, heads, those who hold them, ends.
-- ARGV: where to go on, how many about.
local answer = call('HSCAN', JOB, ARGV[1], 'COUNT', ARGV[2])
local found, ids, heads = answer[2], {}, {}
for i = 1, #found, 2 do
  ids[#ids + 1] = found[i]
  heads[#heads + 1] = string.sub(found[i + 1], 1, string.find(found[i + 1], '\n', 1, true))
end
local held, ends = many('HMGET', HELD, ids), many('HMGET', ENDED, ids)
for i, row in ipairs(ends) do
  if row then ends[i] = string.sub(row, 1, string.find(row, '\n', 1, true)) end
end
return {answer[1], ids, heads, held, ends}
