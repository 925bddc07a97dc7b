"""A store in a network behind an outbox of this node's own. Implements `ports.Store`.

A batch goes to the store where that answers in a short time, and else, in the order of their commits, into
the outbox; a task brings it there as soon as it can. Of all batches only the first in the outbox may be in
the store already, because its answer was lost: until it is known to be there, nothing is read, so that
nothing is shown twice. Afterwards what waits is added to what the store tells.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

from statsvc.announcements import Announcer, StoreAway, StoreBack
from statsvc.errors import StoreError, Unreachable
from statsvc.model import History, PageTotals
from statsvc.ports import Batch, Space, Store
from statsvc.stores.outbox.file import Kept, OutboxFile
from statsvc.stores.outbox.sums import Sums

ANSWER_SECONDS = 2.0
"""A store that takes longer is away."""
PROBE_SECONDS = (0.1, 2.0)
"""Pauses between attempts to reach the store: the first, doubled up to the last."""
DELIVERED_AT_ONCE = 20
"""Batches whose removal from the outbox is one commit of its file. So many may be brought again after a
crash: the store must know the ids of so many of a node's last batches, however long ago they were."""
OUT_FOR_ONE_IN = 2
"""So many batches leave an outbox that is being emptied before one more is acknowledged."""
STOP_SECONDS = 5.0
"""How long a stop waits for the outbox to be emptied."""

Value = TypeVar("Value")


class OutboxStore:
    def __init__(self, remote: Store, outbox: OutboxFile, announce: Announcer) -> None:
        self._remote = remote
        self._outbox = outbox
        self._announce = announce
        self._sums: Sums | None = None
        # With an empty outbox nothing speaks against it; what waits must be seen to arrive.
        self._here = not outbox.batches
        # Held while a batch goes from the outbox's sums to the store's, and while both are read.
        self._turn = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._moved = asyncio.Event()
        self._delivered = 0
        self._version: int | None = None
        self._left_alone: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, remote: Store, path: Path, most_bytes: int, announce: Announcer) -> Self:
        """Raises StoreError: also where batches wait and the store does not take the first of them."""
        outbox = await OutboxFile.open(path, most_bytes)
        try:
            store = cls(remote, outbox, announce)
            if outbox.batches:
                await store._deliver()
        except BaseException:
            await outbox.close()
            raise
        store._task = asyncio.create_task(store._deliver_for_ever(), name="outbox")
        store._wanted.set()
        return store

    async def close(self) -> None:
        """Bring the store what it takes within a short time; the rest waits in the file."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                while self._here and self._outbox.batches:
                    await self._until_moved()
        tasks = {task for task in (self._task, *self._left_alone) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ANSWER_SECONDS)
        with suppress(StoreError):
            await self._outbox.sweep()
        await self._outbox.close()

    @property
    def outbox(self) -> OutboxFile:
        return self._outbox

    async def commit(self, batch: Batch) -> None:
        """As the contract has it; a batch that the store does not take in a short time is durable here."""
        async with self._turn:
            if self._here and not self._outbox.batches:
                with suppress(StoreError):
                    await self._ask(self._remote.commit(batch))
                    return
            await self._keep(batch)
        self._wanted.set()
        enough = self._delivered + OUT_FOR_ONE_IN
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                while self._here and self._outbox.batches and self._delivered < enough:
                    await self._until_moved()

    async def _keep(self, batch: Batch) -> None:
        sums, self._sums = self._sums, None  # what is in the file after a failure is read again
        if await self._outbox.keep(batch) and sums is not None:
            sums.add(batch.tally)
        self._sums = sums

    async def secret(self, site_id: int, day: str, new: bytes | None) -> bytes | None:
        return await self._ask(self._remote.secret(site_id, day, new))

    async def secrets(self) -> dict[tuple[int, str], bytes]:
        return await self._ask(self._remote.secrets())

    async def histories(self, wanted: Sequence[tuple[int, str, str]]) -> list[History]:
        async with self._turn:
            known = await self._ask(self._remote.histories(wanted))
            sums = await self._added()
        return sums.to_histories(known, wanted)

    async def pages(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        async with self._turn:
            pages = await self._ask(self._remote.pages(keys))
            sums = await self._added()
        return sums.to_pages(pages, keys)

    async def open_visits(self) -> list[bytes]:
        async with self._turn:
            known = await self._ask(self._remote.open_visits(), long=True)
            return known + [batch.open_visits async for batch in self._outbox.all()]

    async def receipts(self) -> list[int]:
        async with self._turn:
            known = await self._ask(self._remote.receipts(), long=True)
            return known + [receipt async for batch in self._outbox.all() for receipt in batch.receipts]

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
        async with self._turn:
            known = await self._ask(self._remote.visitors(site_id, day, bot), long=True)
            key = (site_id, day, bot)
            return known + [
                visitor
                async for batch in self._outbox.all()
                for visitor in batch.tally.newcomers.get(key, ())
            ]

    async def paths(self, site_id: int, day: str) -> set[str]:
        """Where the store is away, those that wait here."""
        known: set[str] = set()
        with suppress(StoreError):
            known = await self._ask(self._remote.paths(site_id, day))
        async for batch in self._outbox.all():
            known |= {path for site, on, path in batch.tally.pages if (site, on) == (site_id, day)}
        return known

    async def names(self, site_id: int, day: str) -> set[str]:
        """Where the store is away, those that wait here."""
        known: set[str] = set()
        with suppress(StoreError):
            known = await self._ask(self._remote.names(site_id, day))
        async for batch in self._outbox.all():
            known |= {name for site, on, _, name in batch.tally.names if (site, on) == (site_id, day)}
        return known

    async def forget(self, batches_before_ms: int, receipts_before_ms: int, days_before: str) -> None:
        await self._at_leisure(self._remote.forget(batches_before_ms, receipts_before_ms, days_before))

    async def let_go_of_page_days(self, days_before: str) -> None:
        await self._at_leisure(self._remote.let_go_of_page_days(days_before))

    async def fold_pages(self, site_id: int, keep: int, seen_before: str, into: str) -> list[str]:
        return await self._at_leisure(self._remote.fold_pages(site_id, keep, seen_before, into))

    async def probe(self) -> None:
        """Raises StoreError where an event could be committed neither there nor here."""
        if self._here and not self._outbox.batches:
            with suppress(StoreError):
                await self._ask(self._remote.probe())
                return
        await self._outbox.probe()

    async def space(self) -> Space:
        return await self._ask(self._remote.space())

    async def version(self) -> int:
        """While the store is away, the last one that was told."""
        try:
            self._version = await self._ask(self._remote.version())
        except Unreachable:
            if self._version is None:
                raise
        return self._version

    async def changed(self) -> set[int]:
        """While the store is away, nobody knows; what was missed is told when it is back."""
        with suppress(StoreError):
            return await self._ask(self._remote.changed())
        return set()

    async def _ask(self, question: Coroutine[Any, Any, Value], *, long: bool = False) -> Value:
        """Its answer, if the store gives it in time; else Unreachable, and the store is away from now on.

        A `long` answer may take its time as long as the store answers another question meanwhile.
        """
        if not self._here:
            question.close()
            raise Unreachable("the store can't be reached")
        try:
            return await self._bounded(question, long=long)
        except StoreError as exc:
            self._leave(exc)
            raise Unreachable(str(exc)) from exc

    async def _at_leisure(self, work: Coroutine[Any, Any, Value]) -> Value:
        """What may take its time: where it fails, the store may be here all the same."""
        if not self._here:
            work.close()
            raise Unreachable("the store can't be reached")
        return await work

    async def _bounded(self, question: Coroutine[Any, Any, Value], *, long: bool = False) -> Value:
        """A driver that waits for its own cancellation is not waited for."""
        task = asyncio.ensure_future(question)
        task.add_done_callback(self._ended)
        try:
            done, _ = await asyncio.wait((task,), timeout=ANSWER_SECONDS)
            while long and not done:
                await self._bounded(self._remote.probe())
                done, _ = await asyncio.wait((task,), timeout=ANSWER_SECONDS)
        finally:
            if not task.done():
                task.cancel()
                self._left_alone.add(task)
        if not done:
            raise StoreError(f"the store did not answer within {ANSWER_SECONDS:g} seconds")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._left_alone.discard(task)
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    def _leave(self, exc: StoreError) -> None:
        if self._here:
            self._here = False
            self._announce(StoreAway(str(exc)))
            self._wanted.set()
            self._move()

    async def _added(self) -> Sums:
        if self._sums is None:
            sums = Sums()
            await self._outbox.look()
            async for batch in self._outbox.all():
                sums.add(batch.tally)
            self._sums = sums
        return self._sums

    async def _deliver_for_ever(self) -> None:
        first, longest = PROBE_SECONDS
        pause = first
        while True:
            if self._here and not self._outbox.batches and not self._outbox.unswept:
                self._wanted.clear()
                await self._wanted.wait()
            try:
                # Before others are brought: after a crash those that are in the file are brought again.
                await self._outbox.sweep()
                await self._deliver()
                pause = first
            except StoreError:
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)

    async def _deliver(self) -> None:
        """Bring the store some of what waits, in order; where it was away, one batch or a probe shows it."""
        async with self._turn:  # else a batch may be on its way into the file, whose answer was lost
            waiting = await self._outbox.waiting(DELIVERED_AT_ONCE + 1)
        if self._here:
            for place, kept in enumerate(waiting[:DELIVERED_AT_ONCE], 1):
                async with self._turn:
                    await self._ask(self._remote.commit(kept.batch))
                    self._take(kept, *waiting[place : place + 1])
        else:
            # Commits go to the outbox meanwhile, and nothing is read: this attempt is in nobody's way.
            attempt = self._remote.commit(waiting[0].batch) if waiting else self._remote.probe()
            await self._bounded(attempt)
            async with self._turn:
                if waiting:
                    self._take(*waiting[:2])
                self._here = True
            self._announce(StoreBack(self._outbox.batches))

    def _take(self, kept: Kept, following: Kept | None = None) -> None:
        """The first that waits is in the store."""
        self._outbox.delivered(kept, following)
        if self._sums is not None:
            self._sums.take(kept.batch.tally)
        self._delivered += 1
        self._move()

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def _until_moved(self) -> None:
        await self._moved.wait()
