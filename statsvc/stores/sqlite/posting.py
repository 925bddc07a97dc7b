"""From the journal of commits to the tables that are read: many batches together, a little later.

A commit appends one row to `batches`, whatever it adds. What has not been posted is in that journal, and so
survives; its sum is held here too, so that a posting writes each row of the tables once.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from statsvc.errors import StoreError
from statsvc.ports import Batch
from statsvc.stores.batch_json import as_texts, of_json
from statsvc.stores.sqlite.database import Database
from statsvc.stores.waiting import Waiting
from statsvc.tally import Tally

POST_SECONDS = 1.0
"""How long what is committed stays in the journal alone, where postings are quick."""
SHARE = 20
"""Else for so many times of what the last posting took: commits wait meanwhile."""
LONGEST_SECONDS = 10.0
MOST_BYTES = 16_000_000
"""More is not left in the journal alone: it would take long to read after a crash."""
MOST_IDS = 100_000
"""Nor more ids of visitors and events: they are held in memory meanwhile."""

_POST = (
    "INSERT INTO sums (place, since, at_ms, hours, days, pages, names, newcomers, peaks, receipts) VALUES"
    " (:place, :since, :at_ms, :hours, :days, :pages, :names, :newcomers, :peaks, :receipts)"
)


class Posting:
    """Posts by itself, now and then and when the file is closed. One per file that is served."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._posting = asyncio.Lock()
        self._seconds = POST_SECONDS
        self._due: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._known = False
        self._since = self._place = self._at_ms = 0
        self._clear()
        database.before_close.append(self._last)

    def _clear(self) -> None:
        self.waiting = Waiting()
        """What is in the journal alone, while it is `still`."""
        self._receipts: list[int] = []
        self._bytes = self._ids = 0

    def forget(self) -> None:
        """Something may be in the journal, or posted, that isn't known here: read the journal again."""
        self._known = False
        self._clear()

    def took(self, batch: Batch, place: int, size_bytes: int) -> None:
        """`batch` is in the journal now, at `place`."""
        if self._known:
            self._add(place, batch.at_ms, batch.tally, batch.receipts, size_bytes)
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._seconds, self._begin)

    def _add(self, place: int, at_ms: int, tally: Tally, receipts: Sequence[int], size_bytes: int) -> None:
        self.waiting.add(tally)
        self._receipts += receipts
        self._bytes += size_bytes
        self._ids += len(receipts) + sum(map(len, tally.newcomers.values()))
        self._place, self._at_ms = place, at_ms

    async def room_for(self, at_ms: int) -> int:
        """The place of what is committed next, at `at_ms`. Raises StoreError."""
        if not self._known:
            async with self.still():
                pass
        apart = abs(at_ms - self._at_ms) > LONGEST_SECONDS * 1000  # as where the clock was set
        if self._bytes > MOST_BYTES or self._ids > MOST_IDS or (self._bytes and apart):
            await self.post()
        return self._place + 1

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Nothing is posted until it ends; so what is read of the tables, and `waiting`, is all there is.

        Raises StoreError.
        """
        async with self._posting:
            await self._know()
            yield

    async def post(self) -> None:
        """All that was committed is in the tables when this returns. Raises StoreError."""
        async with self._posting:
            await self._know()
            if not self._bytes:
                return
            loop = asyncio.get_running_loop()
            began = loop.time()
            texts = as_texts(self.waiting.tally, self._receipts)
            row = texts | {"place": self._place, "since": self._since, "at_ms": self._at_ms}
            self._clear()  # what comes meanwhile is for the next
            self._since = self._place
            try:
                await self._database.write(_POST, row)
            except sqlite3.IntegrityError as exc:
                self.forget()
                raise StoreError(f"{self._database.path}: {exc}") from exc
            except BaseException:
                self.forget()
                raise
            self._seconds = min(LONGEST_SECONDS, max(POST_SECONDS, SHARE * (loop.time() - began)))

    async def post_day(self, site_id: int, day: str) -> None:
        """As `post`, where only what is counted on a site's local day is read.

        Each site's first event of a day asks for it, and nothing of that day waits yet: when a thousand sites
        wake up, after midnight or a start, a posting for each of them would keep commits waiting for seconds.
        """
        async with self.still():
            waits = any((site_id, day, bot) in self.waiting.tally.days for bot in (False, True))
        if waits:
            await self.post()

    async def _know(self) -> None:
        """Read what an earlier process, or one's own bad moment, has left in the journal."""
        if self._known:
            return
        rows = await self._database.read_all_written(
            "SELECT posted.place, postings.place, at_ms, tally FROM posted LEFT JOIN postings ON true"
        )
        self._known = True  # at once: what is committed from here on, tells of itself
        with self._database.decoding():
            for self._since, place, at_ms, tally in rows:
                if place is None:
                    self._place = self._since
                else:
                    self._add(place, at_ms, *of_json(tally), len(tally))

    def _begin(self) -> None:
        self._due = None
        self._task = asyncio.create_task(self._post_in_background(), name="posting")

    async def _post_in_background(self) -> None:
        with suppress(StoreError):  # whoever commits is told; all of it stays in the journal
            await self.post()

    async def _last(self) -> None:
        """Only what this process committed: a command beside the service must not post under its hands."""
        if self._due is None and self._task is None:
            return
        if self._due is not None:
            self._due.cancel()
        if self._task is not None:
            await self._task
        await self._post_in_background()
