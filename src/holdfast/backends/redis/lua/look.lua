-- Jobs as they are: blobs, pasts, those who hold them, ends, how far they are. Those that have not ended tell a waiter when they do.
-- ARGV: the waiter's channel or nothing, then the ids.
local ids = arguments(2, #ARGV - 1)
local blobs, ended = many('HMGET', JOB, ids), many('HMGET', ENDED, ids)
if ARGV[1] ~= '' then
  local rows = {}
  for i, told in ipairs(many('HMGET', WAITER, ids)) do
    if blobs[i] and not ended[i] and not string.find(' ' .. (told or '') .. ' ', ' ' .. ARGV[1] .. ' ', 1, true) then
      rows[#rows + 1] = ids[i]
      rows[#rows + 1] = told and #told <= 1000 and told .. ' ' .. ARGV[1] or ARGV[1]
    end
  end
  many('HSET', WAITER, rows)
end
return {blobs, many('HMGET', PAST, ids), many('HMGET', HELD, ids), ended, many('HMGET', PROGRESS, ids)}
