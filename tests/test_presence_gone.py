"""Redis is gone, hangs, or comes back: events go on being counted, and numbers are never wrong."""

import asyncio
import json
import re
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from statsvc.announcements import Announcement, Announcer, PresenceFound, PresenceLost
from statsvc.errors import ConfigError, Unreachable
from statsvc.model import Touch
from statsvc.ports import Batch
from statsvc.presence.fallback import FallbackPresence
from statsvc.presence.redis import RedisPresence
from statsvc.stores.sqlite import SqliteStore
from statsvc.tally import fold
from tests.conftest import App
from tests.facts import SITE, FakeClock, hit, seconds_pass
from tests.redis_server import PATIENCE_SECONDS, RedisServer, Sentinels, redis_client, redis_cluster

FIRST = Touch(visit=True, page_visit=True, visitor=True)
AGAIN = Touch(visit=False, page_visit=False, visitor=False)


class Node:
    """Touches and commits, as ingest does."""

    def __init__(self, client: Any, store: SqliteStore, clock: FakeClock) -> None:
        self.heard: list[Announcement] = []
        self.calls = 0
        node = self

        class Counted(RedisPresence):
            async def touch(self, hits):
                node.calls += 1
                return await super().touch(hits)

        self.shared = Counted(client, store, patience_seconds=PATIENCE_SECONDS)
        self.presence = FallbackPresence(self.shared, store, Announcer([self]))
        self._store = store
        self._clock = clock

    def notice(self, announcement: Announcement) -> None:
        self.heard.append(announcement)

    async def open(self) -> None:
        await self.presence.open([SITE], self._clock.now())

    async def count(self, *hits, pages=None) -> list[Touch]:
        touched = await self.presence.touch(hits)
        if not self.presence.is_known():
            assert set(touched.current.values()) == set(touched.pages.values()) == {None}
            assert not touched.peaks
        tally = fold(hits, touched.touches, touched.peaks)
        await self._store.commit(Batch(secrets.randbits(63), hits[-1].at.wall_ms, tally, touched.open_visits))
        return touched.touches

    async def current(self) -> int | None:
        return await self.presence.current(SITE, self._clock.now())

    async def until_it_is_back(self) -> None:
        self.patience(PATIENCE_SECONDS)
        async for _ in seconds_pass(self._clock):
            await self.current()
            if self.presence.is_known():
                return

    def patience(self, seconds: float) -> None:
        self.shared._shards.patience_seconds = seconds


@asynccontextmanager
async def running(url: str, store: SqliteStore, clock: FakeClock) -> AsyncIterator[Node]:
    async with redis_client(url) as client:
        node = Node(client, store, clock)
        await node.open()
        yield node
        await node.presence.close()


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
async def node(server: RedisServer, store: SqliteStore, clock: FakeClock) -> AsyncIterator[Node]:
    async with running(server.url, store, clock) as node:
        yield node


def lose(node: Node, server: RedisServer, how: str) -> None:
    """Nothing comes from a server that hangs: so a node needn't be patient here."""
    if how == "hung":
        server.hang()
        node.patience(0.2)
    else:
        server.kill()


async def gone(node: Node, server: RedisServer, how: str, clock: FakeClock) -> None:
    """Visitors 1 and 2 are on a visit; then Redis is lost; then 2, 3 and 4 come."""
    await node.count(hit(clock.now(), 1, "/a"), hit(clock.now(), 2, "/a"))
    lose(node, server, how)
    clock.advance(10)
    assert await node.count(hit(clock.now(), 2, "/a"), hit(clock.now(), 3, "/b")) == [AGAIN, FIRST]
    assert await node.count(hit(clock.now(), 3, "/b"), hit(clock.now(), 4, "/b")) == [AGAIN, FIRST]
    assert await node.current() is None
    assert await node.presence.current_on(SITE, ["/a", "/b"], clock.now()) == [None, None]


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_events_are_counted_by_what_the_store_knows(node, server, clock, how):
    """No visit begins twice, and it is said what is not known; one batch waits, the next ones don't."""
    await gone(node, server, how, clock)
    # The batch that was lost, none after it: nobody asks before a second has passed.
    assert node.calls == 2
    assert [type(heard) for heard in node.heard] == [PresenceLost]
    assert (node.presence.open_visits(), node.presence.window_entries()) == (4, 4)


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_when_it_is_back_all_is_known(node, server, clock, how):
    """It may be back as it was, or empty: who is current, on a visit and was here today is right again."""
    await gone(node, server, how, clock)
    server.resume() if how == "hung" else server.start()
    await node.until_it_is_back()
    assert isinstance(node.heard[-1], PresenceFound)
    assert await node.current() == 4
    touches = await node.count(*(hit(clock.now(), visitor, "/b") for visitor in (3, 4)))
    assert touches == [AGAIN] * 2
    assert await node.current() == 4
    assert await node.presence.current_on(SITE, ["/a", "/b"], clock.now()) == [2, 2]
    assert node.presence.open_visits() == 0
    # On the next day's first visit of each, nobody is on a visit, and all are known to have been here.
    clock.advance(3600)
    touches = await node.count(*(hit(clock.now(), visitor, "/b") for visitor in range(1, 6)))
    assert touches == [Touch(True, True, False)] * 4 + [FIRST]


async def test_it_is_told_of_batches_that_come_while_it_is_being_told(node, server, clock):
    """Between what it read of the store and its first event no event is missed."""
    await gone(node, server, "killed", clock)
    server.start()
    clock.advance(1)
    visitor = 10
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not node.presence.is_known():
            visitor += 1
            await node.count(hit(clock.now(), visitor, "/b"))
            await asyncio.sleep(0)
    seen = [*range(1, 5), *range(11, visitor + 1)]
    assert await node.current() == len(seen)
    touches = await node.count(*(hit(clock.now(), visitor, "/b") for visitor in seen[1:]))
    assert [touch.visit for touch in touches] == [False] * len(touches)
    assert [touch.visitor for touch in touches] == [False] * len(touches)


async def test_a_batch_that_is_not_committed_while_it_is_gone_leaves_no_trace(node, server, clock):
    """Neither in this node nor in what is told when it is back."""
    await gone(node, server, "hung", clock)
    await node.presence.touch([hit(clock.now(), 9)])
    await node.open()
    assert await node.count(hit(clock.now(), 9)) == [FIRST]
    await node.presence.touch([hit(clock.now(), 10)])
    await node.open()
    server.resume()
    await node.until_it_is_back()
    assert await node.current() == 5
    assert await node.count(hit(clock.now(), 10)) == [FIRST]


async def test_a_batch_that_it_had_met_and_that_was_not_committed_is_taken_back(node, server, clock):
    """It is lost between the touch and the commit, which fails."""
    await node.count(hit(clock.now(), 1))
    await node.presence.touch([hit(clock.now(), 2)])
    lose(node, server, "hung")
    await node.open()
    assert await node.count(hit(clock.now(), 3)) == [FIRST]
    server.resume()
    await node.until_it_is_back()
    assert await node.current() == 2
    assert await node.count(hit(clock.now(), 2)) == [FIRST]


async def test_sentinels_name_another_server(store, clock):
    """The server ends for good: events are counted meanwhile, and its replica, which may be behind, is used."""
    with Sentinels() as sentinels:
        async with running(sentinels.url, store, clock) as node:
            await node.count(hit(clock.now(), 1, "/a"), hit(clock.now(), 2, "/a"))
            sentinels.primary.kill()
            assert await node.count(hit(clock.now(), 2, "/a"), hit(clock.now(), 3, "/b")) == [AGAIN, FIRST]
            assert await node.current() is None
            sentinels.fail_over()
            await node.until_it_is_back()
            assert await node.current() == 3
            assert await node.count(hit(clock.now(), 3, "/b"), hit(clock.now(), 1, "/a")) == [AGAIN] * 2


@pytest.mark.parametrize("how", ["hung", pytest.param("killed", marks=pytest.mark.torture)])
async def test_a_cluster_without_one_of_its_nodes_is_gone(store, clock, how):
    """Most visitors are known, and not all: that is not known. Its node comes back empty, and all is right."""
    with redis_cluster() as nodes:
        url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        async with running(url, store, clock) as node:
            await node.count(*(hit(clock.now(), visitor) for visitor in range(40)))
            lose(node, nodes[1], how)
            assert await node.count(hit(clock.now(), 1), hit(clock.now(), 40)) == [AGAIN, FIRST]
            assert await node.current() is None
            nodes[1].resume() if how == "hung" else nodes[1].start()
            await node.until_it_is_back()
            assert await node.current() == 41
            touches = await node.count(*(hit(clock.now(), visitor) for visitor in range(42)))
            assert touches == [AGAIN] * 41 + [FIRST]


async def test_without_its_package_there_is_a_sentence(start, monkeypatch):
    """Redis is an extra."""
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=re.escape("pip install 'statsvc[fleet]'")):
        async with start(presence="redis://127.0.0.1"):
            pass


async def test_a_node_starts_without_it(server, store, clock):
    """And counts; what it counted is known when it is there."""
    server.kill()
    async with running(server.url, store, clock) as node:
        assert await node.count(hit(clock.now(), 1)) == [FIRST]
        assert await node.current() is None
        server.start()
        await node.until_it_is_back()
        assert await node.current() == 1


async def test_a_node_that_is_cut_off_from_the_store_too_goes_on(server, database, clock):
    """It knows what it sees itself from then on, and counts all of it."""

    class CutOff(SqliteStore):
        cut = False

        async def open_visits(self) -> list[bytes]:
            self._reach()
            return await super().open_visits()

        async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
            self._reach()
            return await super().visitors(site_id, day, bot)

        def _reach(self) -> None:
            if self.cut:
                raise Unreachable("it can't be reached")

    store = CutOff(database)
    async with running(server.url, store, clock) as node:
        await node.count(hit(clock.now(), 1))
        server.kill()
        store.cut = True
        assert await node.count(hit(clock.now(), 1)) == [FIRST]
        assert await node.count(hit(clock.now(), 1)) == [AGAIN]


async def known(app: App, clock: FakeClock, visitors: int | None) -> dict[str, Any]:
    """The totals, when so many visitors are current; None: when nobody knows."""
    async for _ in seconds_pass(clock):
        totals = await app.totals("hue.gov.vn", "/a")
        if totals["current"]["visitors"] == visitors:
            break
    return totals


async def text(app: App, path: str, *, operations: bool = False) -> str:
    async with app.session.get((app.operations if operations else app.public) + path) as response:
        assert response.status == 200
        return await response.text()


async def test_what_is_not_known_is_shown_nowhere(start, server, clock, patient):
    """JSON says null, never 0; a box and a badge have a dash, metrics no sample; all else is right."""
    async with start(presence=server.url) as app:
        await app.view("/a", 1)
        await known(app, clock, 1)
        samples = await text(app, "/metrics", operations=True)
        assert 'statsvc_current_visitors{site="hue.gov.vn"} 1\n' in samples
        assert "\nstatsvc_presence_known 1.0\n" in samples
        server.kill()
        answer = await app.view("/a", 2)
        assert answer["pages"]["/a"] == {"visits": 2, "pageviews": 2, "current": None}
        totals = await known(app, clock, None)
        assert totals["pages"]["/a"] == {"visits": 2, "pageviews": 2, "current": None}
        assert totals["current"]["peak"]["visitors"] == 1
        assert (totals["visits"]["today"], totals["visitors"]["today"]) == (2, 2)

        samples = await text(app, "/metrics", operations=True)
        assert 'statsvc_current_visitors{site="hue.gov.vn"}' not in samples
        assert 'statsvc_visits{site="hue.gov.vn",period="today"} 2\n' in samples
        assert "\nstatsvc_presence_known 0.0\n" in samples
        badge = await text(app, "/badge.svg?site=hue.gov.vn&lang=vi&show=visits,current,peak")
        assert [re.sub("<.*?>", "", value) for value in re.findall(r'<text class="v".*?</text>', badge)] == [
            *("2", "● –", "1")
        ]
        box = await text(app, "/box?site=hue.gov.vn&lang=vi&show=visits,current")
        assert re.findall(r"<dd[^>]*>(.*?)</dd>", box) == ["2", "–"]
        assert '<dt>Current visitors</dt><dd data-number="current.visitors">–</dd>' in await text(app, "/")
        async with app.session.get(f"{app.public}/api/stream?site=hue.gov.vn") as stream:
            while not (line := await stream.content.readline()).startswith(b"data: "):
                pass
            assert json.loads(line.removeprefix(b"data: "))["current"]["visitors"] is None

        server.start()
        await known(app, clock, 2)
        assert "\nstatsvc_presence_known 1.0\n" in await text(app, "/metrics", operations=True)
