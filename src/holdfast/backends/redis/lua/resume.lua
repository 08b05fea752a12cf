-- Let jobs of these queues be claimed again. ARGV: the channel of those who wait for jobs, then the queues.
local resumed = 0
for i = 2, #ARGV do resumed = resumed + call('HDEL', PAUSED, ARGV[i]) end
if resumed > 0 then wake(ARGV[1]) end
return resumed
