"""The outbox: a SQLite file of batches on their way, kept with the care that the store's own file has."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from statsvc.errors import SchemaTooNew, StoreDamaged, StoreError
from statsvc.ports import Batch
from statsvc.stores.sqlite.database import Database, Kind

OUTBOX = Kind(int.from_bytes(b"sout", "big"), "statsvc.stores.outbox", "--outbox")
FORMAT = 1
"""Of an encoded batch. One with a field more that has a default is still this format."""
READ_AT_ONCE = 500

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


class Kept(NamedTuple):
    place: int
    size_bytes: int
    batch: Batch


class OutboxFile:
    """Batches in the order in which they were kept; `batches` and `size_bytes` of them wait."""

    def __init__(self, database: Database, most_bytes: int) -> None:
        self._database = database
        self.most_bytes = most_bytes
        self._delivered_to = 0
        self._is_full = False
        """The last batch had no room."""
        self.unswept = False
        """Whether what was delivered is in the file still."""
        self.batches = 0
        self.size_bytes = 0
        self.oldest_ms: int | None = None
        """When the batch that waits longest was committed here, in milliseconds since the epoch."""

    @classmethod
    async def open(cls, path: Path, most_bytes: int) -> Self:
        """Raises StoreError with a sentence that names the file; of two processes the second is refused."""
        try:
            outbox = cls(await Database.open(path, serving=True, kind=OUTBOX), most_bytes)
        except StoreDamaged as exc:
            raise StoreDamaged(
                f"the outbox can't be read: {exc} Nothing else has what waits in it: to start without that,"
                " put it aside or choose another --outbox"
            ) from exc
        try:
            await outbox.look()
        except BaseException:
            await outbox.close()
            raise
        return outbox

    async def close(self) -> None:
        await self._database.close()

    async def look(self) -> None:
        """Count again what waits."""
        ((self.batches, self.size_bytes, self.oldest_ms),) = await self._database.read(
            "SELECT count(*), coalesce(sum(length(batch)), 0), min(at_ms) FROM batches WHERE place > ?",
            (self._delivered_to,),
        )

    async def keep(self, batch: Batch) -> bool:
        """Durably; False where it is here already. Raises StoreError where there is no room."""
        encoded = _encode(batch)
        self._is_full = self.size_bytes + len(encoded) > self.most_bytes
        self._refuse_if_full()
        new = await self._database.write(
            "INSERT INTO batches (id, at_ms, format, batch) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING RETURNING place",
            (batch.id, batch.at_ms, FORMAT, encoded),
        )
        if new:
            self.batches += 1
            self.size_bytes += len(encoded)
            self.oldest_ms = batch.at_ms if self.oldest_ms is None else self.oldest_ms
        return bool(new)

    async def waiting(self, most: int, after: int = 0) -> list[Kept]:
        """The first batches behind the place `after`, at most so many."""
        rows = await self._database.read(
            "SELECT place, format, batch FROM batches WHERE place > ? ORDER BY place LIMIT ?",
            (max(after, self._delivered_to), most),
        )
        with self._database.decoding():
            return [Kept(place, len(batch), _read(form, batch)) for place, form, batch in rows]

    async def all(self) -> AsyncIterator[Batch]:
        """Every batch that waits, in order; some at a time are in memory."""
        place = 0
        while waiting := await self.waiting(READ_AT_ONCE, place):
            for kept in waiting:
                yield kept.batch
            place = waiting[-1].place

    def delivered(self, kept: Kept, following: Kept | None) -> None:
        """`kept`, the first that waits, waits no more; it is in the file until the next `sweep`."""
        self._delivered_to = kept.place
        self.unswept, self._is_full = True, False
        self.batches -= 1
        self.size_bytes -= kept.size_bytes
        if not self.batches:
            self.oldest_ms = None
        elif following is not None:
            self.oldest_ms = following.batch.at_ms

    async def sweep(self) -> None:
        """Delete, durably, what was delivered; where nothing waits, leave a small file and an empty log."""
        if not self.unswept:
            return
        await self._database.write("DELETE FROM batches WHERE place <= ?", (self._delivered_to,))
        if not self.batches:
            await self._database.write("VACUUM")  # else the bytes of what was there stay in free pages
            await self._database.empty_log()
        self.unswept = False

    async def probe(self) -> None:
        """Raises StoreError where a batch could not be kept now."""
        self._refuse_if_full()
        await self._database.probe()

    def _refuse_if_full(self) -> None:
        if self._is_full:
            raise StoreError(
                f"the outbox {self._database.path} is full: {self.batches:,} batches wait for the store"
            )


def _read(form: int, encoded: bytes) -> Batch:
    """Raises SchemaTooNew, or ValueError for what is not as it was written."""
    if form != FORMAT:
        raise SchemaTooNew(f"the outbox has batches of format {form}, written by a newer statsvc: use that")
    try:
        return _decode(encoded)
    except msgspec.MsgspecError as exc:
        raise ValueError(str(exc)) from exc
