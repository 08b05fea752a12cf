"""What Service Bus keeps: queues, messages, locks, sessions. Pure: time, tokens and holders are arguments."""
