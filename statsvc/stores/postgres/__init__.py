"""PostgreSQL: one store for many nodes. Needs the extra `[fleet]`."""

from statsvc.stores.postgres.audit import audit
from statsvc.stores.postgres.database import PostgresDatabase
from statsvc.stores.postgres.registry import PostgresRegistry
from statsvc.stores.postgres.replica import PostgresReplica
from statsvc.stores.postgres.store import PostgresStore

__all__ = ["PostgresDatabase", "PostgresRegistry", "PostgresReplica", "PostgresStore", "audit"]
