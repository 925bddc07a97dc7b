"""From a hit to its durable commit: one open batch, one flush loop, no timer.

The first hit on a quiet service is committed at once. Hits that arrive while a commit runs gather in
the open batch and go together in the next, so the disk's speed sets the batch's size.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from statsvc.announcements import Announcer, CommitFailed, Committed, Fault
from statsvc.board import Answers, Board
from statsvc.cardinality import Cardinality
from statsvc.duplicates import Duplicates
from statsvc.errors import StoreError, Unavailable, Unreachable
from statsvc.model import DropReason, Hit, Site
from statsvc.ports import Batch, Claims, Clock, Presence, Store
from statsvc.sites import Sites
from statsvc.tally import ENGAGEMENT, PAGEVIEW, Tally, fold

HITS_IN_OPEN_BATCH = 10_000
"""More are refused: what is accepted must not wait behind a queue that only grows."""
RETRY_DELAYS_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5)
"""Pauses between the attempts at one batch. While the store is failing, and at a stop, it gets one."""
GATHERING_ROUNDS = 10
"""A batch lets in what has reached the machine already, so often at most, for as long as there is more."""
PATIENCE_SECONDS = 4.0
"""After so long no other attempt is begun: senders are told rather than kept waiting."""
HANGING_SECONDS = 5.0
"""A commit that takes so long may never end, as on a disk that hangs: nobody waits behind it any longer."""
RETRY_AFTER_SECONDS = 5


class Recorded(Struct, frozen=True, gc=False):
    """An event's hits are durable."""

    answers: Answers
    """For the hits that were not counted already."""
    dropped: Mapping[int, DropReason]
    """Why, by its place among the event's, for a hit that was counted already."""


class _OpenBatch:
    """Hits on their way, and those who wait for them."""

    __slots__ = ("_waiting", "answers", "dropped", "failed", "hits", "in_hand")

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self._waiting: list[asyncio.Future[None]] = []
        self.answers: Answers | None = None
        self.dropped: dict[int, DropReason] = {}
        self.in_hand: set[int] = set()
        self.failed = False

    def done(self) -> asyncio.Future[None]:
        """To wait for. Each has its own: who gives up waiting doesn't end it for the others."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        return waiting

    def recorded(self, first: int, events: Sequence[Sequence[Hit]]) -> list[Recorded | Unavailable]:
        """What became of `events`, whose hits are here from place `first` on."""
        assert self.answers is not None
        if not self.dropped and not self.in_hand:
            return [Recorded(self.answers, {})] * len(events)
        of_events: list[Recorded | Unavailable] = []
        for hits in events:
            places = range(first, first + len(hits))
            first = places.stop
            if self.in_hand.isdisjoint(places):
                dropped = {
                    place - places.start: self.dropped[place] for place in places if place in self.dropped
                }
                of_events.append(Recorded(self.answers, dropped))
            else:
                of_events.append(Unavailable("another node has the same event in hand", RETRY_AFTER_SECONDS))
        return of_events

    def tell(self) -> None:
        """It is committed, or not: all who wait go on."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class Ingest:
    """A batch leaves memory only when it is committed, or when its senders have been told it is not."""

    def __init__(
        self,
        store: Store,
        presence: Presence,
        board: Board,
        sites: Sites,
        clock: Clock,
        announce: Announcer,
        claims: Claims | None = None,
    ) -> None:
        self._store = store
        self._presence = presence
        self._board = board
        self._sites = sites
        self._clock = clock
        self._announce = announce
        self._duplicates = Duplicates(store, claims)
        self._cardinality = Cardinality(store, announce)
        self._open = _OpenBatch()
        self._arrived = asyncio.Event()
        self._closing = False
        self._failing = False
        self._hanging = False
        self._presence_is_ahead = False
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._flush_for_ever(), name="flush loop")

    async def stop(self) -> None:
        """Take no more hits, commit those that are here and tell their senders."""
        self._closing = True
        self._arrived.set()
        if self._loop is not None:
            await self._loop

    @property
    def pending(self) -> int:
        """Hits in the open batch."""
        return len(self._open.hits)

    async def offer(self, events: Sequence[Sequence[Hit]]) -> list[Recorded | Unavailable]:
        """Record the hits of events that came together: when this returns, they are durable, or it is said
        of each event why it was not recorded.
        """
        batch = self._open
        refusal = self._refusal(sum(map(len, events)))
        if refusal is None:
            first = len(batch.hits)
            for hits in events:
                batch.hits.extend(hits)
            self._arrived.set()
            await batch.done()
            if not batch.failed:
                return batch.recorded(first, events)
            refusal = "the event could not be committed to disk"
        return [Unavailable(refusal, RETRY_AFTER_SECONDS)] * len(events)

    def _refusal(self, hits: int) -> str | None:
        """Why so many more can't be taken now."""
        if self._closing:
            return "the service is stopping"
        if self._hanging:
            return "the disk does not answer"
        if len(self._open.hits) + hits > HITS_IN_OPEN_BATCH:
            return "more events arrive than can be committed"
        return None

    async def _flush_for_ever(self) -> None:
        while not self._closing or self._open.hits:
            await self._arrived.wait()
            self._arrived.clear()
            await self._gather()
            batch, self._open = self._open, _OpenBatch()
            if not batch.hits:
                continue
            hanging = asyncio.get_running_loop().call_later(HANGING_SECONDS, self._hang)
            try:
                await self._flush(batch)
            except Exception as exc:  # noqa: BLE001 - a fault in one batch must not end the loop
                # What memory knows of this batch may be more, or less, than what the store knows.
                self._presence_is_ahead = True
                self._board.forget()
                self._duplicates.forget()
                batch.failed = True
                if not isinstance(exc, StoreError):
                    with suppress(MemoryError):  # there may be none left to tell of it
                        self._announce(Fault.of("flush loop", exc))
            finally:
                hanging.cancel()
                self._hanging = False
            batch.tell()

    def _hang(self) -> None:
        """Tell those who wait behind the commit under way that they are not recorded."""
        self._hanging = True
        batch, self._open = self._open, _OpenBatch()
        batch.failed = True
        batch.tell()

    async def _gather(self) -> None:
        """Let in hits that have come and have not been read: the more in a commit, the less each costs."""
        for _ in range(GATHERING_ROUNDS):
            before = len(self._open.hits)
            # A request takes two turns of the event loop from its socket to the batch.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if len(self._open.hits) == before:
                return

    async def _flush(self, batch: _OpenBatch) -> None:
        if self._presence_is_ahead:
            # Where nobody can tell what was committed, what is known has to do: else every event would be
            # refused until the store is back.
            with suppress(Unreachable):
                await self._presence.open(self._sites, self._clock.now())
            self._presence_is_ahead = False
        hits, batch.dropped, receipts, batch.in_hand = await self._duplicates.sift(batch.hits)
        batch.answers = await self._count(hits, receipts) if hits else Answers({}, {})
        self._duplicates.settle()

    async def _count(self, hits: Sequence[Hit], receipts: Sequence[int]) -> Answers:
        hits = await self._cardinality.bound(hits)
        touched = await self._presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        batch = Batch(random.getrandbits(63), hits[-1].at.wall_ms, tally, touched.open_visits, receipts)
        sites = {hit.site.id: hit.site for hit in hits}
        async with self._board.between_commits:
            await self._commit(batch, len(hits), sites)
            now = self._clock.now()
            try:
                return await self._board.settle(sites.values(), tally, touched, now)
            except StoreError:
                # Counted, but the totals can't be read: say that, rather than a wrong number.
                return Answers.without_numbers(sites.values(), now)

    async def _commit(self, batch: Batch, hits: int, sites: Mapping[int, Site]) -> None:
        """Commit, or try the same batch again; its id keeps it from being counted twice.

        Raises StoreError when given up: then neither the presence nor the totals know of the batch.
        """
        began = self._clock.now().steady_ms
        delays = iter(RETRY_DELAYS_SECONDS)
        attempts = 0
        while True:
            attempts += 1
            try:
                await self._store.commit(batch)
            except StoreError as exc:
                delay = next(delays, None)
                patient = self._clock.now().steady_ms - began < PATIENCE_SECONDS * 1000
                given_up = delay is None or not patient or self._failing or self._closing
                self._announce(CommitFailed(hits, str(exc), given_up))
                if delay is None or given_up:
                    self._failing = True
                    raise
                await asyncio.sleep(delay)
            else:
                self._failing = False
                seconds = (self._clock.now().steady_ms - began) / 1000
                self._announce(Committed(hits, _names(batch.tally, sites), seconds, attempts))
                return


def _names(tally: Tally, sites: Mapping[int, Site]) -> Counter[tuple[str, str, bool]]:
    names: Counter[tuple[str, str, bool]] = Counter()
    for (site, _, bot, name), events in tally.names.items():
        names[sites[site].domain, name if name in (PAGEVIEW, ENGAGEMENT) else "custom", bot] += events
    return names
