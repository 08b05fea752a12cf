"""Jobs in queues of Azure Service Bus: a `Broker` that lies beside no store."""

from holdfast.backends.servicebus.broker import ServiceBusBroker

__all__ = ["ServiceBusBroker"]
