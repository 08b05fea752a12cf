-- Who works: names, when their leases end, what they said of themselves, how many jobs they hold, whether they wait.
local names, ends, said, holds, waits = {}, {}, {}, {}, {}
local leases = call('ZRANGE', LEASES, 0, -1, 'WITHSCORES')
for i = 1, #leases, 2 do
  names[#names + 1] = leases[i]
  ends[#ends + 1] = leases[i + 1]
  said[#said + 1] = call('HGET', WORKER, leases[i])
  holds[#holds + 1] = call('SCARD', HELD_BY .. leases[i])
  waits[#waits + 1] = call('SISMEMBER', WAITS, leases[i])
end
return {names, ends, said, holds, waits}
