"""The outbox: a store that goes away, hangs, loses its answers and comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from statsvc.announcements import Announcer, StoreAway, StoreBack
from statsvc.errors import SchemaTooNew, StoreDamaged, StoreError, StoreInUse, Unreachable
from statsvc.model import DayCounts, PageTotals, Peak
from statsvc.ports import Batch
from statsvc.stores.outbox import OutboxFile, OutboxStore
from statsvc.stores.outbox import store as outbox_module
from statsvc.stores.outbox.file import OUTBOX
from statsvc.stores.sqlite import Database, SqliteStore
from statsvc.tally import Tally
from tests.facts import NOON_MS, history_of
from tests.test_log import Listener
from tests.test_stores import TODAY, a_tally, batch, postgres

ROOM = 1_000_000
PATIENT_SECONDS = 60
"""A store that answers is taken for away on no machine, however busy."""


class Remote(SqliteStore):
    """A real store at the end of a network that is cut, hangs, or loses answers."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.gone = False
        self.answers_lost = 0
        self.hanging: asyncio.Event | None = None
        self.committed: list[int] = []

    async def _reach(self) -> None:
        if self.hanging is not None:
            await self.hanging.wait()
        if self.gone:
            raise StoreError("connection refused")

    async def commit(self, batch: Batch) -> None:
        await self._reach()
        await super().commit(batch)
        self.committed.append(batch.id)
        if self.answers_lost:
            self.answers_lost -= 1
            raise StoreError("connection reset")

    async def probe(self) -> None:
        await self._reach()
        await super().probe()

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
        await self._reach()
        return await super().visitors(site_id, day, bot)

    async def paths(self, site_id: int, day: str) -> set[str]:
        await self._reach()
        return await super().paths(site_id, day)


class Node:
    """A store behind an outbox, in a process that may be killed and started again."""

    def __init__(self, remote: Remote, path: Path) -> None:
        self.remote, self.path = remote, path
        self.listener = Listener()
        self.store: OutboxStore

    async def start(self, most_bytes: int = ROOM) -> None:
        self.store = await OutboxStore.open(self.remote, self.path, most_bytes, Announcer([self.listener]))

    async def kill(self) -> None:
        """Nothing of what a stop does; but that the file can be opened again."""
        assert self.store._task is not None
        self.store._task.cancel()
        await asyncio.gather(self.store._task, return_exceptions=True)
        await self.store.outbox.close()

    async def close(self) -> None:
        await self.store.close()

    async def cut_off(self) -> None:
        """The store is gone, and this node has noticed."""
        self.remote.gone = True
        await self.store.commit(batch(999_999))

    async def delivered(self) -> None:
        async with asyncio.timeout(20):
            while self.store.outbox.batches or self.store.outbox.unswept or not self.store._here:
                await asyncio.sleep(0.001)

    async def pageviews(self) -> int:
        return (await history_of(self.store, 1, TODAY, TODAY)).total.pageviews


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "ANSWER_SECONDS", PATIENT_SECONDS)
    monkeypatch.setattr(outbox_module, "PROBE_SECONDS", (0.001, 0.01))
    monkeypatch.setattr(outbox_module, "STOP_SECONDS", 0.2)


@pytest.fixture
async def remote(database: Database) -> Remote:
    return Remote(database)


@pytest.fixture
async def node(remote: Remote, tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(remote, tmp_path / "outbox.db")
    await node.start()
    yield node
    await node.store.close()


async def test_while_the_store_answers_nothing_is_kept(node, remote):
    """A batch goes to the store, and the outbox stays empty."""
    await node.store.commit(batch(1, a_tally()))
    assert remote.committed == [1]
    assert node.store.outbox.batches == 0
    assert await node.pageviews() == 2


async def test_what_is_acknowledged_while_the_store_is_gone_is_delivered_in_order(node, remote):
    """As soon as it answers, each once, and the log tells of both."""
    remote.gone = True
    for number in range(1, 60):
        await node.store.commit(batch(number, a_tally()))
    assert remote.committed == []
    assert node.store.outbox.batches == 59
    remote.gone = False
    await node.delivered()
    assert remote.committed == list(range(1, 60))
    assert await node.pageviews() == 2 * 59
    assert node.store.outbox.size_bytes == 0
    assert node.listener.heard == [StoreAway("connection refused"), StoreBack(58)]


async def test_a_store_that_hangs_holds_up_one_batch_and_no_other(node, remote, monkeypatch):
    """The first waits a bounded time; those after it go to the outbox at once, whatever the probes do."""
    remote.hanging = asyncio.Event()
    monkeypatch.setattr(outbox_module, "ANSWER_SECONDS", 0.2)
    await node.store.commit(batch(1, a_tally()))
    monkeypatch.setattr(outbox_module, "ANSWER_SECONDS", PATIENT_SECONDS)
    async with asyncio.timeout(PATIENT_SECONDS / 2):
        for number in range(2, 30):
            await node.store.commit(batch(number, a_tally()))
    remote.hanging.set()
    await node.delivered()
    assert await node.pageviews() == 2 * 29


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_an_answer_that_is_lost_counts_nothing_twice(node, remote, lost):
    """Neither in the store, nor in what is shown before it is known that the batch was there."""
    remote.answers_lost = lost
    shown: list[int] = []

    async def look() -> None:
        while True:
            try:
                shown.append(await node.pageviews())
            except StoreError:
                await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    for number in range(1, 20):
        await node.store.commit(batch(number, a_tally()))
        shown.append(-1)
    await node.delivered()
    looking.cancel()
    assert await node.pageviews() == 2 * 19
    acknowledged = 0
    for pageviews in shown:
        if pageviews == -1:
            acknowledged += 1
        else:
            assert 2 * acknowledged <= pageviews <= 2 * (acknowledged + 1)


async def test_what_waits_is_added_to_what_the_store_tells(node, remote, monkeypatch):
    """Totals, days, peaks, pages, visitors, paths, names, open visits and receipts, before it is delivered."""
    other = batch(1, a_tally(1, 2), open_visits=b"first", receipts=(1,))
    await SqliteStore.commit(remote, other)
    remote.gone = True
    for number, day in ((2, TODAY), (3, "2026-11-22"), (4, TODAY)):
        tally = a_tally(5, 7, day, visitors=(number,))
        await node.store.commit(batch(number, tally, open_visits=b"%d" % number, receipts=(number,)))
    await node.kill()
    remote.gone = False
    # Only the first is delivered at the start.
    monkeypatch.setattr(OutboxStore, "_deliver_for_ever", lambda _: asyncio.Event().wait())
    await node.start()
    assert node.store.outbox.batches == 2
    history = await history_of(node.store, 1, TODAY, TODAY)
    assert history.total == PageTotals(16, 23)
    assert history.days == {TODAY: DayCounts(11, 16, 3)}
    assert history.peak == history.peak_today == Peak(5, NOON_MS)
    assert await node.store.pages([(1, "/a"), (1, "/b")]) == {(1, "/a"): PageTotals(16, 23)}
    assert sorted(await node.store.visitors(1, TODAY, False)) == [2, 4, 7]
    assert await node.store.paths(1, "2026-11-22") == {"/a"}
    assert await node.store.names(1, "2026-11-22") == {"pageview"}
    assert await node.store.open_visits() == [b"first", b"2", b"3", b"4"]
    assert await node.store.receipts() == [1, 2, 3, 4]


async def test_a_node_that_is_killed_delivers_at_its_next_start(node, remote):
    """Also where it was killed between a delivery and its note of it: ids make it once."""
    await node.cut_off()
    for number in range(1, 30):
        await node.store.commit(batch(number, a_tally()))
    await node.kill()
    remote.gone, remote.answers_lost = False, 1
    with pytest.raises(StoreError, match="connection reset"):
        await node.start()
    await node.start()
    await node.delivered()
    assert await node.pageviews() == 2 * 29


async def test_without_its_store_a_node_with_a_full_outbox_does_not_start(node, remote):
    """It says why, and what waits goes on waiting."""
    await node.cut_off()
    await node.kill()
    with pytest.raises(StoreError, match="connection refused"):
        await node.start()
    remote.gone = False
    await node.start()
    await node.delivered()
    assert remote.committed == [999_999]


async def test_a_full_outbox_refuses_and_a_batch_given_again_takes_no_room(remote, tmp_path):
    """By its size; when it is delivered there is room again."""
    node = Node(remote, tmp_path / "small.db")
    await node.start(most_bytes=1000)
    remote.gone = True
    kept = 0
    with suppress(StoreError):
        while True:
            await node.store.commit(batch(kept, a_tally()))
            kept += 1
    assert kept > 2
    with pytest.raises(StoreError, match="is full"):
        await node.store.commit(batch(kept, a_tally()))
    remote.gone = False
    await node.delivered()
    await node.store.commit(batch(kept, a_tally()))
    assert await node.pageviews() == 2 * (kept + 1)
    await node.store.close()


async def test_health_looks_where_the_next_batch_goes(node, remote, tmp_path):
    """At the store, or, where that is gone, at the outbox: a full one is not healthy."""
    await node.store.probe()
    await node.cut_off()
    await node.store.probe()
    node.store.outbox.most_bytes = node.store.outbox.size_bytes
    with pytest.raises(StoreError, match="is full"):
        await node.store.commit(batch(1))
    with pytest.raises(StoreError, match="is full"):
        await node.store.probe()


async def test_while_the_store_is_gone_no_day_is_taken_for_known(node, remote):
    """Its visitors can't be told, and are no wrong set; of paths and names those that wait here bound it."""
    await node.store.commit(batch(1, a_tally()))
    assert await node.store.visitors(1, TODAY, False) == [7]
    await node.cut_off()
    for day in (TODAY, "2026-11-24"):
        with pytest.raises(Unreachable):
            await node.store.visitors(1, day, False)
    assert await node.store.paths(1, "2026-11-24") == set()


async def test_an_answer_may_be_long_while_the_store_answers_others(node, remote, monkeypatch):
    """All visitors of a large site's day take longer than a commit may; of a store that hangs they don't come."""
    probes, read, hangs = 0, asyncio.Event(), asyncio.Event()

    async def visitors(*_: object) -> list[int]:
        await read.wait()
        return [1, 2, 3]

    async def probe() -> None:
        nonlocal probes
        probes += 1
        if probes > 3:
            await hangs.wait()

    remote.visitors, remote.probe = visitors, probe
    monkeypatch.setattr(outbox_module, "ANSWER_SECONDS", 0.05)
    asking = asyncio.create_task(node.store.visitors(1, TODAY, False))
    while probes < 3:
        await asyncio.sleep(0)
    read.set()
    assert await asking == [1, 2, 3]
    read.clear()
    with pytest.raises(Unreachable, match="did not answer"):
        await node.store.visitors(1, TODAY, True)
    hangs.set()


async def test_sites_are_as_they_were_while_nobody_can_ask(node, remote):
    """So that housekeeping tells of no change, nor of a fault."""
    version = await node.store.version()
    await node.cut_off()
    assert await node.store.version() == version
    assert await node.store.changed() == set()


async def test_what_is_delivered_leaves_the_file(node, remote, tmp_path):
    """It is small again, and no byte of the batches is in it or in its log."""
    mark = b"a-path-that-is-nowhere-else"
    await node.cut_off()
    path = f"/{mark.decode()}/" + "x" * 1500
    for number in range(600):
        await node.store.commit(batch(number, Tally(pages={(1, TODAY, f"{path}{number}"): [1, 1]})))

    def files() -> bytes:
        return b"".join(file.read_bytes() for file in tmp_path.glob("outbox.db*"))

    assert mark in files()
    assert len(files()) > 1_000_000
    remote.gone = False
    await node.delivered()
    assert mark not in files()
    assert len(files()) < 200_000


async def test_an_outbox_is_one_nodes_own(node, remote):
    """A second node on the same file is refused with a sentence that says what to do."""
    with pytest.raises(StoreInUse, match="choose another --outbox"):
        await OutboxFile.open(node.path, ROOM)


async def test_a_damaged_outbox_is_told_and_left_as_it_is(node, remote):
    """What waits in it is nowhere else."""
    await node.cut_off()
    await node.kill()
    damaged = b"SQLite format 3\x00" + bytes(4096)
    node.path.write_bytes(damaged)
    with pytest.raises(StoreDamaged, match="the outbox can't be read"):
        await OutboxFile.open(node.path, ROOM)
    assert node.path.read_bytes() == damaged
    node.path.unlink()
    for beside in node.path.parent.glob("outbox.db-*"):
        beside.unlink()
    remote.gone = False
    await node.start()


WRITTEN_IN_FORMAT_1 = bytes.fromhex(
    "85a26964cf7fffffffffffffffa561745f6d73cf000001a206c67880a574616c6c7986a5686f757273819301ce"
    "6b03c850c293010203a464617973819301aa323032362d31312d3233c293010201a57061676573819301aa3230"
    "32362d31312d3233a22f61920102a56e616d6573819401aa323032362d31312d3233c2a8706167657669657702"
    "a96e6577636f6d657273819301aa323032362d31312d3233c29107a57065616b73819201aa323032362d31312d"
    "32339201cf000001a206c67880ab6f70656e5f766973697473c4076a6f75726e616ca872656365697074739201"
    "02"
)
"""An encoded batch as the first program with an outbox wrote it: never to be written anew."""


async def test_what_an_older_program_kept_is_delivered(node, remote):
    """An outbox outlives the program that filled it."""
    await node.cut_off()
    await node.store.outbox._database.write("UPDATE batches SET batch = ?", (WRITTEN_IN_FORMAT_1,))
    await node.kill()
    remote.gone = False
    await node.start()
    await node.delivered()
    assert remote.committed == [2**63 - 1]
    assert (await history_of(node.store, 1, TODAY, TODAY)).peak == Peak(1, NOON_MS)
    assert await node.store.receipts() == [1, 2]
    assert await node.store.visitors(1, TODAY, False) == [7]


async def test_a_batch_of_a_newer_format_is_told(node, remote):
    """Rather than read as something else."""
    await node.cut_off()
    await node.store.outbox._database.write("UPDATE batches SET format = 99")
    await node.kill()
    remote.gone = False
    with pytest.raises(SchemaTooNew, match="format 99"):
        await node.start()
    database = await Database.open(node.path, serving=False, kind=OUTBOX)
    await database.write("UPDATE batches SET format = 1")
    await database.close()
    await node.start()


async def test_a_batch_that_is_brought_again_after_hours_is_counted_once(tmp_path):
    """PostgreSQL forgets open visits and ids, but the ids of what each node brought last it still knows."""
    async with postgres(tmp_path) as (store, _), postgres(tmp_path) as (other, _):
        for number in range(120):
            await store.commit(batch(number, a_tally(), at_ms=NOON_MS))
        await other.commit(batch(1000, a_tally(), at_ms=NOON_MS))
        later_ms = NOON_MS + 3600_000
        await other.forget(later_ms, later_ms, TODAY)
        assert await other.open_visits() == []
        for number in (*range(20, 120), 1000):
            await store.commit(batch(number, a_tally(), at_ms=NOON_MS))
        assert (await history_of(store, 1, TODAY, TODAY)).total == PageTotals(121, 242)


@hypothesis_settings(max_examples=25)
@given(
    steps=st.lists(
        st.sampled_from(["commit", "commit", "commit", "again", "gone", "back", "lose", "kill"]), max_size=25
    )
)
async def test_whatever_happens_each_acknowledged_batch_is_counted_once(steps, tmp_path_factory):
    """A store that goes, comes and loses answers, and a node that is killed: the sum is of each batch once."""
    folder = tmp_path_factory.mktemp("outbox")
    async with AsyncExitStack() as stack:
        database = await Database.open(folder / "stats.db", serving=False)
        stack.push_async_callback(database.close)
        node = Node(Remote(database), folder / "outbox.db")
        await node.start()
        stack.push_async_callback(node.close)
        await _go_through(node, steps)


async def _go_through(node: Node, steps: list[str]) -> None:
    remote, number = node.remote, 0
    for step in steps:
        match step:
            case "commit":
                number += 1
                await node.store.commit(batch(number, a_tally()))
            case "again" if number:
                await node.store.commit(batch(number, a_tally()))
            case "gone":
                remote.gone = True
            case "back":
                remote.gone = False
            case "lose":
                remote.answers_lost += 1
            case "kill":
                await node.kill()
                gone, remote.gone, remote.answers_lost = remote.gone, False, 0
                await node.start()
                remote.gone = gone
            case _:
                pass
        with suppress(StoreError):
            assert await node.pageviews() == 2 * number
    remote.gone, remote.answers_lost = False, 0
    await node.delivered()
    assert await node.pageviews() == 2 * number
    assert remote.committed == sorted(remote.committed)
