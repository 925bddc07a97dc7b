import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from statsvc import ingest as ingest_module
from statsvc.announcements import Announcement, Announcer, CommitFailed, Committed, Fault
from statsvc.board import Board
from statsvc.errors import StoreError, Unavailable
from statsvc.ingest import HITS_IN_OPEN_BATCH, Ingest, Recorded
from statsvc.model import DropReason, Hit, Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.sites import Sites
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from tests.facts import NOON_MS, FakeClock, history_of, hit


class FaultyStore(SqliteStore):
    """A real store whose commits can be held, and fail before or after they are durable."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.failures_before = 0
        self.failures_after = 0
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.batches: list[Batch] = []
        self.committing = asyncio.Event()

    async def commit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.committing.set()
        await self.gate.wait()
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        if self.failures_before:
            self.failures_before -= 1
            raise StoreError("the disk said no")
        await super().commit(batch)
        if self.failures_after:
            self.failures_after -= 1
            raise StoreError("the answer was lost")


class Listener:
    def __init__(self) -> None:
        self.heard: list[Announcement] = []

    def notice(self, announcement: Announcement) -> None:
        self.heard.append(announcement)


class Parts:
    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.store = FaultyStore(database)
        self.registry = SqliteRegistry(database)
        self.sites = Sites(self.registry)
        self.presence = MemoryPresence(self.store)
        self.board = Board(self.store, self.presence)
        self.listener = Listener()
        announce = Announcer([self.listener])
        self.ingest = Ingest(self.store, self.presence, self.board, self.sites, clock, announce)

    async def offer(self, hits: Sequence[Hit]) -> Recorded:
        """Those of one event."""
        (recorded,) = await self.ingest.offer([hits])
        if isinstance(recorded, Unavailable):
            raise recorded
        return recorded

    def heard(self, kind: type) -> list[Announcement]:
        return [announcement for announcement in self.listener.heard if isinstance(announcement, kind)]


@pytest.fixture
async def parts(
    database: Database, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Parts]:
    monkeypatch.setattr(ingest_module, "RETRY_DELAYS_SECONDS", (0.001, 0.001))
    parts = Parts(database, clock)
    await parts.registry.add(Site(id=0, domain="hue.gov.vn", time_zone="Asia/Ho_Chi_Minh"), NOON_MS)
    await parts.sites.load()
    parts.ingest.start()
    yield parts
    parts.store.gate.set()
    await parts.ingest.stop()


async def pageviews(parts: Parts) -> int:
    return (await history_of(parts.store, 1, "2026-01-01", "2026-11-23")).total.pageviews


async def test_the_first_hit_is_committed_at_once_and_later_ones_gather(parts, clock):
    """Without a timer: one commit for the first, one for all that arrived while it ran."""
    parts.store.gate.clear()
    first = asyncio.create_task(parts.offer([hit(clock.now(), 1)]))
    await parts.store.committing.wait()
    later = [asyncio.create_task(parts.offer([hit(clock.now(), n)])) for n in range(2, 30)]
    await asyncio.sleep(0)
    assert parts.ingest.pending == len(later)
    assert not first.done()
    parts.store.gate.set()
    await asyncio.gather(first, *later)
    assert [committed.events for committed in parts.heard(Committed)] == [1, 28]
    assert await pageviews(parts) == 29


async def test_a_batch_lets_in_what_has_come_and_has_not_been_read(parts, clock):
    """A request is on its way for a turn or two of the event loop; what comes after that has another commit."""

    async def offer(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await parts.offer([hit(clock.now(), turns)])

    await asyncio.gather(offer(0), offer(2), offer(4))
    assert len(parts.store.batches) == 1
    await offer(0)
    assert len(parts.store.batches) == 2


async def test_the_answer_has_the_totals_with_this_commit(parts, clock):
    """The numbers in an answer are those after the event was counted."""
    answers = (await parts.offer([hit(clock.now(), 1, "/a")])).answers
    assert b'"visits":{"total":1,' in answers.to(hit(clock.now()).site, "/a")
    assert b'"pages":{"/a":{"visits":1,"pageviews":1,"current":1}}' in answers.to(hit(clock.now()).site, "/a")


async def test_a_failed_commit_is_tried_again_with_the_same_batch(parts, clock):
    """The sender hears of a success; the batch counted once."""
    parts.store.failures_before = 2
    await parts.offer([hit(clock.now())])
    assert len({batch.id for batch in parts.store.batches}) == 1
    assert len(parts.store.batches) == 3
    assert [failed.given_up for failed in parts.heard(CommitFailed)] == [False, False]
    assert await pageviews(parts) == 1


async def test_a_commit_whose_answer_was_lost_counts_once(parts, clock):
    """The batch was durable though the store raised: the retry changes nothing."""
    parts.store.failures_after = 1
    await parts.offer([hit(clock.now())])
    assert await pageviews(parts) == 1


async def test_what_cannot_be_committed_is_refused_and_leaves_no_trace(parts, clock):
    """503 is honest: the visitor's next event begins the visit, and every number agrees."""
    parts.store.failures_before = 3
    with pytest.raises(Unavailable, match="could not be committed"):
        await parts.offer([hit(clock.now(), 1)])
    answers = (await parts.offer([hit(clock.now(), 1)])).answers
    assert b'"visits":{"total":1,"today":1,' in answers.to(hit(clock.now()).site, "")
    assert await pageviews(parts) == 1


async def test_a_batch_refused_but_durable_is_known_to_memory_too(parts, clock):
    """Given up though it was durable: totals and presence are read again and agree with the store."""
    await parts.offer([hit(clock.now(), 1)])
    parts.store.failures_after = 3
    with pytest.raises(Unavailable):
        await parts.offer([hit(clock.now(), 2)])
    answers = (await parts.offer([hit(clock.now(), 2)])).answers
    body = answers.to(hit(clock.now()).site, "")
    assert b'"visits":{"total":2,' in body
    assert b'"pageviews":{"total":3,' in body
    assert b'"visitors":{"today":2,' in body


async def test_while_the_store_fails_a_batch_gets_one_attempt(parts, clock):
    """A disk that is full refuses fast, and the first success ends it."""
    parts.store.failures_before = 5
    for _ in range(3):
        with pytest.raises(Unavailable):
            await parts.offer([hit(clock.now())])
    assert len(parts.store.batches) == 5
    await parts.offer([hit(clock.now())])
    assert await pageviews(parts) == 1


async def test_more_than_can_wait_is_refused_at_once(parts, clock):
    """The open batch is bounded; who is refused is told when to come back."""
    parts.store.gate.clear()
    first = asyncio.create_task(parts.offer([hit(clock.now())]))
    await parts.store.committing.wait()
    full = asyncio.create_task(parts.offer([hit(clock.now())] * HITS_IN_OPEN_BATCH))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="more events arrive") as raised:
        await parts.offer([hit(clock.now())])
    assert raised.value.retry_after_seconds > 0
    parts.store.gate.set()
    await asyncio.gather(first, full)


async def test_nobody_waits_behind_a_disk_that_hangs(parts, clock, monkeypatch):
    """Who waits for the next commit is told 503, and so is who comes; when the disk answers all goes on."""
    monkeypatch.setattr(ingest_module, "HANGING_SECONDS", 0.05)
    parts.store.gate.clear()
    first = asyncio.create_task(parts.offer([hit(clock.now(), 1)]))
    await parts.store.committing.wait()
    with pytest.raises(Unavailable, match="could not be committed"):
        await parts.offer([hit(clock.now(), 2)])
    with pytest.raises(Unavailable, match="does not answer"):
        await parts.offer([hit(clock.now(), 3)])
    parts.store.gate.set()
    await first
    await parts.offer([hit(clock.now(), 4)])
    assert [announced.events for announced in parts.heard(Committed)] == [1, 1]


async def test_a_stop_commits_what_is_here_and_takes_no_more(parts, clock):
    """Who was accepted before the stop is answered; who comes after is refused."""
    parts.store.gate.clear()
    waiting = [asyncio.create_task(parts.offer([hit(clock.now(), n)])) for n in range(5)]
    await parts.store.committing.wait()
    stopping = asyncio.create_task(parts.ingest.stop())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="stopping"):
        await parts.offer([hit(clock.now())])
    parts.store.gate.set()
    await asyncio.gather(stopping, *waiting)
    assert await pageviews(parts) == 5


async def test_a_sender_who_hangs_up_harms_nobody(parts, clock):
    """One of two senders of a batch goes away; the other is answered, and both were counted."""
    parts.store.gate.clear()
    gone = asyncio.create_task(parts.offer([hit(clock.now(), 1)]))
    stays = asyncio.create_task(parts.offer([hit(clock.now(), 2)]))
    await parts.store.committing.wait()
    gone.cancel()
    parts.store.gate.set()
    await stays
    assert await pageviews(parts) == 2


async def test_a_fault_in_one_batch_does_not_end_the_loop(parts, clock):
    """Something unforeseen refuses its batch, is told of, and the next batch is counted."""
    parts.store.fault = RuntimeError("never seen before")
    with pytest.raises(Unavailable):
        await parts.offer([hit(clock.now())])
    assert len(parts.heard(Fault)) == 1
    await parts.offer([hit(clock.now())])
    assert await pageviews(parts) == 1


def numbered(at, receipt: int, visitor: int = 1):
    return hit(at, visitor, receipt=receipt)


async def test_an_event_that_is_sent_again_counts_once(parts, clock):
    """In one batch, in a later one, and beside others that are new; each sender hears of its own."""
    parts.store.gate.clear()
    first = asyncio.create_task(parts.offer([hit(clock.now())]))
    await parts.store.committing.wait()
    together = [asyncio.create_task(parts.offer([numbered(clock.now(), receipt)])) for receipt in (7, 7, 8)]
    parts.store.gate.set()
    await first
    recorded = await asyncio.gather(*together)
    assert [dict(each.dropped) for each in recorded] == [{}, {0: DropReason.DUPLICATE}, {}]
    again = await parts.offer([numbered(clock.now(), 8), numbered(clock.now(), 9)])
    assert dict(again.dropped) == {0: DropReason.DUPLICATE}
    assert dict((await parts.offer([numbered(clock.now(), 9)])).dropped) == {0: DropReason.DUPLICATE}
    assert await pageviews(parts) == 4


async def test_of_events_that_come_together_each_hears_of_its_own(parts, clock):
    """An event has a hit for each site it names: what was counted already is told by the place among those."""
    await parts.offer([numbered(clock.now(), 7)])
    events = [[numbered(clock.now(), 1)], [numbered(clock.now(), 2), numbered(clock.now(), 7)]]
    recorded = await parts.ingest.offer([*events, [numbered(clock.now(), 1)], [numbered(clock.now(), 3)]])
    duplicate = DropReason.DUPLICATE
    assert [dict(each.dropped) for each in recorded] == [{}, {1: duplicate}, {0: duplicate}, {}]
    assert len(parts.store.batches) == 2
    assert await pageviews(parts) == 4


async def test_of_events_that_come_together_none_is_recorded_where_all_are_too_many(parts, clock):
    """Each is told so."""
    hits = [hit(clock.now())]
    refused = await parts.ingest.offer([hits, hits * HITS_IN_OPEN_BATCH])
    assert [str(each) for each in refused] == ["more events arrive than can be committed"] * 2
    assert await pageviews(parts) == 0


async def test_an_event_that_could_not_be_committed_may_be_sent_again(parts, clock):
    """What was refused was not counted, so its second sending is no duplicate."""
    parts.store.failures_before = 3
    with pytest.raises(Unavailable):
        await parts.offer([numbered(clock.now(), 7)])
    assert not (await parts.offer([numbered(clock.now(), 7)])).dropped
    assert await pageviews(parts) == 1


async def test_an_event_refused_but_durable_counts_once(parts, clock):
    """503 though it was committed: only the store knows, and is asked."""
    parts.store.failures_after = 3
    with pytest.raises(Unavailable):
        await parts.offer([numbered(clock.now(), 7)])
    assert dict((await parts.offer([numbered(clock.now(), 7)])).dropped) == {0: DropReason.DUPLICATE}
    assert await pageviews(parts) == 1
