"""The counting core without HTTP: presence, tally and store, at whatever time it is told."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from statsvc.calendar import local_hour
from statsvc.duplicates import Duplicates
from statsvc.model import Hit, Identity, Moment, Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from statsvc.tally import PAGEVIEW, fold


class Inside:
    """A store with one site, and its presence."""

    def __init__(self, store: SqliteStore, site: Site) -> None:
        self.store = store
        self.site = site
        self.presence = MemoryPresence(store)
        self._duplicates = Duplicates(store)

    def hit(self, visitor: int, path: str, name: str, at: Moment) -> Hit:
        hour = local_hour(self.site.zone, at.wall_ms)
        receipt = random.getrandbits(60) if name == PAGEVIEW else None  # as with counter.js's ids
        return Hit(self.site, Identity(visitor), False, name, path, hour, at, receipt=receipt)

    async def record(self, hits: Sequence[Hit]) -> None:
        """As one batch, durable when this returns."""
        hits, _, receipts, _ = await self._duplicates.sift(hits)
        touched = await self.presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        id_ = random.getrandbits(63)
        await self.store.commit(Batch(id_, hits[-1].at.wall_ms, tally, touched.open_visits, receipts))


@asynccontextmanager
async def inside(path: Path, domain: str, at: Moment) -> AsyncIterator[Inside]:
    """On a new store."""
    database = await Database.open(path, serving=True)
    try:
        site = await SqliteRegistry(database).add(Site(id=0, domain=domain), at.wall_ms)
        yield Inside(SqliteStore(database), site)
    finally:
        await database.close()
