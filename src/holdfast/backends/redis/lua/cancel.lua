-- End jobs that wait, and have the workers told that hold the others. Answers the ids of both.
-- ARGV: now, until when the ended are kept, what channels begin with, what those of workers begin with, the channel
-- of those who wait for jobs, then the ids.
local now, keep, prefix, inbox, jobs = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local ended, asked = {}, {}
local function withdrawn(id, blob)
  if call('ZREM', LANE .. head_of(blob)[1], id) == 1 then return true end
  local row = call('HGET', GATED, id)
  local gate = row and cjson.decode(row)
  return row and call('ZREM', BEHIND .. gate[5], gate[1]) == 1
end
for i = 6, #ARGV do
  local id = ARGV[i]
  local blob = call('HGET', JOB, id)
  if blob and call('HEXISTS', ENDED, id) == 0 then
    local held = call('HGET', HELD, id)
    if held then
      call('SADD', ASKED, id)
      asked[#asked + 1] = id
      call('PUBLISH', inbox .. string.match(held, '^%d+ (.*) %S+$'), '')
    elseif withdrawn(id, blob) then
      ended[#ended + 1] = id
      cancelled(id, now, keep)
    end
  end
end
local _, channels, through = let_go(ended)
if through > 0 then wake(jobs) end
tell(prefix, channels)
return {ended, asked}
