-- What earlier claims took although their answers did not arrive. Answers ids, blobs, pasts and tickets.
-- ARGV: worker, then the tickets.
local ids = call('SMEMBERS', HELD_BY .. ARGV[1])
local asked, found, tickets = {}, {}, {}
for i = 2, #ARGV do asked[ARGV[i]] = true end
for i, row in ipairs(many('HMGET', HELD, ids)) do
  local ticket = string.match(row, '(%S+)$')
  if asked[ticket] then
    found[#found + 1] = ids[i]
    tickets[#tickets + 1] = ticket
  end
end
return {found, many('HMGET', JOB, found), many('HMGET', PAST, found), tickets}
