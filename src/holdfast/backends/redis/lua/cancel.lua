-- End jobs that wait, and have the workers told that hold the others. Answers the ids of both.
-- ARGV: now, until when the ended are kept, what channels begin with, what those of workers begin with, then the ids.
local now, keep, prefix, inbox = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local ended, asked = {}, {}
for i = 5, #ARGV do
  local id = ARGV[i]
  local blob = call('HGET', JOB, id)
  if blob and call('HEXISTS', ENDED, id) == 0 then
    local held = call('HGET', HELD, id)
    if held then
      call('SADD', ASKED, id)
      asked[#asked + 1] = id
      call('PUBLISH', inbox .. string.match(held, '^%d+ (.*) %S+$'), '')
    elseif call('ZREM', LANE .. head_of(blob)[1], id) == 1 then
      ended[#ended + 1] = id
      cancelled(id, now, keep)
    end
  end
end
local _, channels = let_go(ended)
tell(prefix, channels)
return {ended, asked}
