"""What people see of running work: logs and histories. Reads; changes nothing."""
