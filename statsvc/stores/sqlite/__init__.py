"""SQLite: one file, one serving process, no server to care for."""

from statsvc.stores.sqlite.database import Database
from statsvc.stores.sqlite.registry import SqliteRegistry
from statsvc.stores.sqlite.store import SqliteStore

__all__ = ["Database", "SqliteRegistry", "SqliteStore"]
