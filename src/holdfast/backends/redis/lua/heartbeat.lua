-- Renew a lease, and end those that are over. Answers whether it stood, how many workers are alive and how many wait.
-- ARGV: worker, when its lease is to end, now, until when jobs are kept that were cancelled, what channels begin with,
-- the channel of those who wait for jobs.
local alive = call('ZSCORE', LEASES, ARGV[1]) and 1 or 0
if alive == 1 then call('ZADD', LEASES, ARGV[2], ARGV[1]) end
local freed = 0
for _, worker in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', '(' .. ARGV[3])) do
  freed = freed + relieve(worker, 1, ARGV[3], ARGV[4], ARGV[5])
end
if freed > 0 then wake(ARGV[6]) end
return {alive, call('ZCARD', LEASES), call('SCARD', WAITS)}
