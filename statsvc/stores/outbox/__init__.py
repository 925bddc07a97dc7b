"""A store in a network, with a file of this node's own for what can't be brought there now."""

from statsvc.stores.outbox.file import OutboxFile
from statsvc.stores.outbox.store import OutboxStore

__all__ = ["OutboxFile", "OutboxStore"]
