-- What earlier claims took although their answers did not arrive. Answers ids, blobs and pasts.
-- ARGV: worker, then the tickets.
local ids = call('SMEMBERS', HELD_BY .. ARGV[1])
local tickets, found = {}, {}
for i = 2, #ARGV do tickets[ARGV[i]] = true end
for i, row in ipairs(many('HMGET', HELD, ids)) do
  if tickets[string.match(row, '(%S+)$')] then found[#found + 1] = ids[i] end
end
return {found, many('HMGET', JOB, found), many('HMGET', PAST, found)}
