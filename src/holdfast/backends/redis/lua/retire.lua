-- End a lease and put back what it held. ARGV: worker, now, until when jobs are kept that were cancelled, what channels
-- begin with, the channel of those who wait for jobs.
if relieve(ARGV[1], 0, ARGV[2], ARGV[3], ARGV[4]) > 0 then wake(ARGV[5]) end
return 1
