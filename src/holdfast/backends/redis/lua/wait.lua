-- Say whether a worker waits for jobs. ARGV: worker, 1 or 0.
if ARGV[2] == '0' then
  call('SREM', WAITS, ARGV[1])
elseif call('ZSCORE', LEASES, ARGV[1]) then
  call('SADD', WAITS, ARGV[1])
end
return 1
