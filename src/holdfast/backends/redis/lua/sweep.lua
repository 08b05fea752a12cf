-- Remove ended jobs that need not be kept any longer; answers how many. ARGV: now, how many at most.
local ids = call('ZRANGEBYSCORE', KEPT, '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
remove(ids)
many('ZREM', KEPT, ids)
return #ids
