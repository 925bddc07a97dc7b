"""The contract of `ports.Presence`, over every backend.

A new backend joins by one more opener in BACKENDS; nothing below knows which one it runs on.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from statsvc.model import Hit, Peak, Touch
from statsvc.ports import Batch, Presence, Store, Touched
from statsvc.presence import journal
from statsvc.presence.memory import MemoryPresence
from statsvc.presence.redis import RedisPresence
from statsvc.stores.sqlite import Database, SqliteStore
from statsvc.tally import fold
from tests.facts import NOON_MS, SITE, FakeClock, hit, wall_ms
from tests.redis_server import PATIENCE_SECONDS, redis_client

Opener = Callable[[Store], Presence]
"""Opened again on the same store, a presence is what it is after a restart."""


@asynccontextmanager
async def memory(_: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    yield MemoryPresence


@asynccontextmanager
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    async with _in_redis(request.getfixturevalue("redis_server").url) as opener:
        yield opener


@asynccontextmanager
async def redis_that_forgets(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    """After a restart there is nothing in Redis."""
    async with _in_redis(request.getfixturevalue("redis_server").url, forgets=True) as opener:
        yield opener


@asynccontextmanager
async def redis_cluster(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    async with _in_redis(request.getfixturevalue("redis_cluster_url")) as opener:
        yield opener


@asynccontextmanager
async def _in_redis(url: str, *, forgets: bool = False) -> AsyncIterator[Opener]:
    """Each store has a part of Redis that is nobody else's."""
    prefixes: dict[Store, str] = {}

    def opened(store: Store) -> Presence:
        if forgets:
            prefixes.pop(store, None)
        prefix = prefixes.setdefault(store, secrets.token_hex(4))
        return RedisPresence(client, store, prefix, PATIENCE_SECONDS)

    async with redis_client(url) as client:
        yield opened


Backend = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Opener]]
BACKENDS: list[Backend] = [memory, redis, redis_that_forgets, redis_cluster]


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.__name__)
async def opener(request: pytest.FixtureRequest) -> AsyncIterator[Opener]:
    async with request.param(request) as opener:
        yield opener


class Counter:
    """Touches and commits, as ingest does; may be stopped and started again."""

    def __init__(self, opener: Opener, store: Store, clock: FakeClock) -> None:
        self._opener = opener
        self._store = store
        self._clock = clock
        self._batches = 0
        self.presence: Presence

    async def restart(self) -> None:
        self.presence = self._opener(self._store)
        await self.presence.open([SITE], self._clock.now())

    async def count(self, *hits: Hit) -> Touched:
        touched = await self.presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        self._batches += 1
        await self._store.commit(Batch(self._batches, hits[-1].at.wall_ms, tally, touched.open_visits))
        return touched

    async def current(self) -> int | None:
        return await self.presence.current(SITE, self._clock.now())


@asynccontextmanager
async def counting(opener: Opener, folder: Path, clock: FakeClock) -> AsyncIterator[Counter]:
    database = await Database.open(folder / "stats.db", serving=False)
    counter = Counter(opener, SqliteStore(database), clock)
    await counter.restart()
    try:
        yield counter
    finally:
        await database.close()


Start = AbstractAsyncContextManager[Counter]


@pytest.fixture
async def counter(opener: Opener, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Counter]:
    async with counting(opener, tmp_path, clock) as counter:
        yield counter


FIRST = Touch(visit=True, page_visit=True, visitor=True)
AGAIN = Touch(visit=False, page_visit=False, visitor=False)


async def test_a_visitor_is_current_for_the_window_and_on_a_visit_for_the_gap(counter, clock):
    """300 seconds and 1,800 seconds, to the millisecond."""
    assert (await counter.count(hit(clock.now()))).touches == [FIRST]
    clock.advance(299.999)
    assert await counter.current() == 1
    clock.advance(0.001)
    assert await counter.current() == 0
    clock.advance(1499.999)
    assert (await counter.count(hit(clock.now()))).touches == [AGAIN]
    clock.advance(1800)
    assert (await counter.count(hit(clock.now()))).touches == [Touch(True, True, False)]


async def test_engagement_keeps_a_reader_current(counter, clock):
    """Who stays on one long page stays current, and on one visit."""
    await counter.count(hit(clock.now()))
    for _ in range(60):
        clock.advance(120)
        assert (await counter.count(hit(clock.now(), name="engagement"))).touches == [AGAIN]
        assert await counter.current() == 1


async def test_pages_have_visits_and_current_visitors_of_their_own(counter, clock):
    """A visitor is current on the page of the latest event; a page seen again in a visit is one visit of it."""
    now = clock.now()
    touched = await counter.count(hit(now, 1, "/a"), hit(now, 2, "/a"), hit(now, 1, "/b"), hit(now, 1, "/a"))
    assert [touch.page_visit for touch in touched.touches] == [True, True, True, False]
    assert touched.current == {1: 2}
    assert touched.pages == {(1, "/a"): 2, (1, "/b"): 0}
    assert await counter.presence.current_on(SITE, ["/a", "/b", "/c"], now) == [2, 0, 0]


async def test_bots_are_no_current_visitors(counter, clock):
    """Bots have visits and visitors by the same rules, apart from people's."""
    touched = await counter.count(hit(clock.now(), 1, bot=True), hit(clock.now(), 1))
    assert touched.touches == [FIRST, FIRST]
    assert touched.current == {1: 1}
    assert await counter.current() == 1


async def test_a_path_that_two_sites_have_is_a_page_of_each(counter, clock):
    """Also for bots, and after a restart."""
    other, now = msgspec.structs.replace(SITE, id=2, domain="other.gov.vn"), clock.now()
    await counter.count(
        hit(now, 1, "/a"),
        hit(now, 2, "/a", site=other),
        hit(now, 3, "/b", site=other),
        hit(now, 4, "/a", bot=True),
    )
    await counter.restart()
    await counter.presence.open([SITE, other], now)
    assert await counter.presence.current_on(SITE, ["/a", "/b"], now) == [1, 0]
    assert await counter.presence.current_on(other, ["/a", "/b"], now) == [1, 1]
    touched = await counter.count(hit(now, 2, "/b", site=other), hit(now, 4, "/a", bot=True))
    assert touched.touches == [Touch(visit=False, page_visit=True, visitor=False), AGAIN]


async def test_a_bot_alone_is_told_how_many_people_are_current(counter, clock):
    """The answer to a bot's event has the people's number."""
    assert (await counter.count(hit(clock.now(), 1, bot=True))).current == {1: 0}


async def test_midnight_leaves_the_visitor_current_on_one_visit_and_is_a_new_day(counter, clock):
    """Across local midnight: one current visitor, one visit, a visitor of both days."""
    clock.set(wall_ms("2026-11-23 23:59:50"))
    await counter.count(hit(clock.now(), visitor=1, path="/a"))
    clock.advance(20)
    touched = await counter.count(hit(clock.now(), visitor=2, path="/a", formerly=(1,)))
    assert touched.touches == [Touch(visit=False, page_visit=False, visitor=True)]
    assert await counter.current() == 1


async def test_midnight_and_a_restart_together(counter, clock):
    """What was carried over midnight is carried over a restart too, and nobody is counted twice."""
    clock.set(wall_ms("2026-11-23 23:59:50"))
    await counter.count(hit(clock.now(), visitor=1, path="/a"))
    clock.advance(20)
    await counter.count(hit(clock.now(), visitor=2, path="/b", formerly=(1,)))
    clock.advance(20)
    await counter.restart()
    assert await counter.current() == 1
    touched = await counter.count(hit(clock.now(), visitor=2, path="/a", formerly=(1,)))
    assert touched.touches == [AGAIN]


async def test_a_clock_that_goes_back_over_midnight_changes_nobody(counter, clock):
    """A visitor who gets yesterday's id again stays the one visitor there was."""
    clock.set(wall_ms("2026-11-24 00:00:01"))
    await counter.count(hit(clock.now(), visitor=2))
    clock.step(-2)
    assert (await counter.count(hit(clock.now(), visitor=1, formerly=(2,)))).touches == [
        Touch(visit=False, page_visit=False, visitor=True)
    ]
    clock.step(2)
    assert (await counter.count(hit(clock.now(), visitor=2, formerly=(1,)))).touches == [AGAIN]
    assert await counter.current() == 1


@pytest.mark.parametrize("step", [-7200, 7200])
async def test_a_step_of_the_wall_clock_is_no_time_passed(counter, clock, step):
    """Somebody sets the clock by two hours: readers stay current for as long as they would have."""
    await counter.count(hit(clock.now()))
    clock.step(step)
    assert await counter.current() == 1
    clock.advance(299)
    assert await counter.current() == 1
    clock.advance(1)
    assert await counter.current() == 0


async def test_a_restart_after_the_clock_went_back_keeps_visitors_current(counter, clock):
    """What seems to lie in the future was seen just now."""
    await counter.count(hit(clock.now()))
    clock.step(-3600)
    await counter.restart()
    assert await counter.current() == 1
    clock.advance(300)
    assert await counter.current() == 0


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_step_and_then_a_commit_that_fails_change_nobody(counter, clock, step):
    """Read again within one process, a visitor is as old as the steady clock says."""
    await counter.count(hit(clock.now()))
    clock.step(step)
    clock.advance(299)
    await counter.presence.open([SITE], clock.now())
    assert await counter.current() == 1
    clock.advance(1)
    await counter.presence.open([SITE], clock.now())
    assert await counter.current() == 0


async def test_what_was_not_committed_is_not_known_after_open(counter, clock):
    """A batch that was given up leaves no trace: its visitor's next event begins the visit."""
    await counter.count(hit(clock.now(), visitor=1))
    await counter.presence.touch([hit(clock.now(), visitor=2)])
    await counter.presence.open([SITE], clock.now())
    assert await counter.current() == 1
    assert (await counter.count(hit(clock.now(), visitor=2))).touches == [FIRST]


async def test_the_peak_of_a_batch_is_its_highest_moment(counter, clock):
    """Visitors who come and go between two commits are seen at their most, and when."""
    hits = [hit(clock.now(), visitor) for visitor in range(5)]
    hits.append(hit(clock.advance(400), 9))
    touched = await counter.count(*hits)
    assert touched.peaks == {(1, "2026-11-23"): Peak(5, NOON_MS)}
    assert touched.current == {1: 1}


async def test_another_window_applies_at_once(counter, clock):
    """A site whose window is changed has its current visitors by the new one."""
    await counter.count(hit(clock.now()))
    clock.advance(100)
    shorter = msgspec.structs.replace(SITE, window_seconds=60)
    assert await counter.presence.current(shorter, clock.now()) == 0
    assert await counter.presence.current(SITE, clock.now()) == 1


async def test_trim_lets_go_of_what_is_over_and_of_nothing_else(counter, clock):
    """After days nothing is held of a visitor, and one who is here stays."""
    await counter.count(hit(clock.now(), 1))
    for _ in range(4):
        clock.advance(86_400)
        await counter.count(hit(clock.now(), 2))
        await counter.presence.trim(clock.now())
    assert await counter.current() == 1
    assert (await counter.count(hit(clock.now(), 2))).touches == [AGAIN]


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 4), st.sampled_from(["/", "/a", "/b"]), st.integers(0, 1000), st.sampled_from("+|R")
    ),
    max_size=25,
)


@hypothesis_settings(max_examples=20)
@given(events=EVENTS)
async def test_any_split_into_batches_and_any_restart_gives_the_same(opener, tmp_path_factory, events):
    """Whatever is committed together and wherever the process ends: the same touches, the same peak."""

    async def run(*, split: bool) -> tuple[list[Touch], int, int | None]:
        clock = FakeClock(NOON_MS)
        async with counting(opener, tmp_path_factory.mktemp("split"), clock) as counter:
            touches: list[Touch] = []
            waiting: list[Hit] = []
            highest = 0
            for visitor, path, passed, what in events:
                waiting.append(hit(clock.advance(passed), visitor, path))
                if split and what != "+":
                    touched = await counter.count(*waiting)
                    touches += touched.touches
                    highest = max([highest, *(peak.visitors for peak in touched.peaks.values())])
                    waiting = []
                    if what == "R":
                        await counter.restart()
            if waiting:
                touched = await counter.count(*waiting)
                touches += touched.touches
                highest = max([highest, *(peak.visitors for peak in touched.peaks.values())])
            return touches, highest, await counter.current()

    assert await run(split=True) == await run(split=False)


async def test_what_was_committed_late_is_not_the_newest(clock):
    """A visit that one node kept in its outbox goes on where another node saw it last."""
    early, late = hit(clock.now(), 1, "/early"), hit(clock.advance(300), 1, "/late")
    kept, brought = (
        journal.write(process, [((SITE.id, False), seen, [0])], [seen.path])
        for process, seen in enumerate((early, late))
    )
    now = clock.advance(1)
    for journals in ([kept, brought], [brought, kept]):
        (visit,) = journal.fold(journals, 2, now).visits[SITE.id, False]
        assert visit == (1, late.at.steady_ms, ("/late",))
