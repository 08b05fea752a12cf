"""The store on PostgreSQL 13 and up, and what speaks its protocol. Needs asyncpg."""

from holdfast.backends.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
