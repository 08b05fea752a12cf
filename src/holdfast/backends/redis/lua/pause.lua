-- Let nobody claim jobs of these queues. ARGV: now, then the queues.
for i = 2, #ARGV do call('HSETNX', PAUSED, ARGV[i], ARGV[1]) end
return true
