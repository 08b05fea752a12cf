-- Queue ended jobs again, as they were sent, unless another one has their unique text. Answers those that are queued.
-- ARGV: now, the channel of those who wait for jobs, then the ids.
local now, done = ARGV[1], {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if call('HEXISTS', ENDED, id) == 1 then
    local head = head_of(call('HGET', JOB, id))
    local unique = head[6] ~= cjson.null and '=' .. head[6] or false
    if not unique or call('HSETNX', UNIQUE, unique, id) == 1 then
      if unique then call('HSET', TEXT, id, unique) end
      local claims = read_past(call('HGET', PAST, id))
      write_past(id, claims, 1, 0, now, '1', '')
      call('HDEL', ENDED, id)
      call('HDEL', PROGRESS, id)
      if head[7] then enter(id, head[7]) end
      call('ZREM', KEPT, id)
      call('ZREM', DEAD, id)
      queue(head[1], now, id)
      done[#done + 1] = id
    end
  end
end
if #done > 0 then wake(ARGV[2]) end
return done
