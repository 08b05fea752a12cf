-- Take a lease. ARGV: worker, when it ends, what the worker says of itself.
call('ZADD', LEASES, ARGV[2], ARGV[1])
call('HSET', WORKER, ARGV[1], ARGV[3])
return 1
