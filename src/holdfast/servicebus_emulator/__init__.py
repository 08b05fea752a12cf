"""A local stand-in for Azure Service Bus queues, over plain AMQP 1.0. A development tool: messages live in memory only.

It knows nothing of Holdfast, and shares no code with the client library that it answers: it is the other side, written
from the AMQP 1.0 specification and from what Service Bus is documented to do.
"""
