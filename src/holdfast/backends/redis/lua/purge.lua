-- Remove ended jobs; answers those removed. ARGV: the ids.
local done = {}
for i = 1, #ARGV do
  if call('HEXISTS', ENDED, ARGV[i]) == 1 then done[#done + 1] = ARGV[i] end
end
remove(done)
many('ZREM', KEPT, done)
many('ZREM', DEAD, done)
return done
