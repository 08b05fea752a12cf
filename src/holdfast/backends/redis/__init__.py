"""Jobs in Redis, Valkey or a Redis Cluster: a `Broker` that lies beside no store."""

from holdfast.backends.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
