"""What is particular to Redis: several nodes on one, what it forgets, and what it holds."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from statsvc.ingest import HITS_IN_OPEN_BATCH
from statsvc.model import Touch
from statsvc.ports import Batch
from statsvc.presence.redis import RedisPresence
from statsvc.presence.shards import SHARDS
from statsvc.stores.sqlite import SqliteStore
from statsvc.tally import fold
from statsvc.visits import LONGEST_TRAIL
from tests.facts import SITE, FakeClock, hit, wall_ms
from tests.redis_server import PATIENCE_SECONDS, RedisServer, redis_client

FIRST = Touch(visit=True, page_visit=True, visitor=True)
AGAIN = Touch(visit=False, page_visit=False, visitor=False)


@pytest.fixture
def own_redis():
    """A server that the test may stop, and look into."""
    with RedisServer() as server:
        yield server


class Nodes:
    """Several presences on one Redis and one store, as of several processes."""

    def __init__(self, server: RedisServer, store: SqliteStore, clock: FakeClock) -> None:
        self._server = server
        self._store = store
        self._clock = clock
        self.stack = AsyncExitStack()
        self.clients: list[Any] = []

    async def add(self) -> RedisPresence:
        self.clients.append(await self.stack.enter_async_context(redis_client(self._server.url)))
        presence = RedisPresence(self.clients[-1], self._store, patience_seconds=PATIENCE_SECONDS)
        await presence.open([SITE], self._clock.now())
        return presence

    async def count(self, presence: RedisPresence, *hits) -> list[Touch]:
        """Touch and commit."""
        touched = await presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        await self._store.commit(Batch(secrets.randbits(63), hits[-1].at.wall_ms, tally, touched.open_visits))
        return touched.touches


@pytest.fixture
async def nodes(own_redis: RedisServer, store: SqliteStore, clock: FakeClock) -> AsyncIterator[Nodes]:
    nodes = Nodes(own_redis, store, clock)
    async with nodes.stack:
        yield nodes


async def test_a_visitor_who_changes_nodes_is_on_one_visit(nodes, clock):
    """A visit, a page's visit and the day's visitor are begun once, whichever node is asked."""
    one, other = await nodes.add(), await nodes.add()
    assert await nodes.count(one, hit(clock.now(), 1, "/a")) == [FIRST]
    assert await nodes.count(other, hit(clock.advance(1), 1, "/a")) == [AGAIN]
    assert await nodes.count(other, hit(clock.now(), 2, "/a")) == [FIRST]
    for node in (one, other):
        assert await node.current(SITE, clock.now()) == 2
        assert list(await node.current_on(SITE, ["/a", "/b"], clock.now())) == [2, 0]


async def test_what_was_not_committed_is_taken_back_but_not_what_another_node_went_on_with(nodes, clock):
    """Of three visitors of a batch that failed one is as before, one is gone, and one is the other node's."""
    one, other = await nodes.add(), await nodes.add()
    await nodes.count(one, hit(clock.now(), 1, "/a"))
    clock.advance(200)
    await one.touch([hit(clock.now(), 1, "/b"), hit(clock.now(), 2, "/b"), hit(clock.now(), 3, "/b")])
    await nodes.count(other, hit(clock.advance(1), 3, "/c"))
    await one.open([SITE], clock.now())
    assert list(await other.current_on(SITE, ["/a", "/b", "/c"], clock.now())) == [1, 0, 1]
    assert await nodes.count(other, hit(clock.now(), 2, "/b")) == [FIRST]
    assert await nodes.count(other, hit(clock.now(), 1, "/b")) == [Touch(False, True, False)]
    # It was new to the batch that failed, and to no other.
    assert await nodes.count(other, hit(clock.now(), 3, "/c")) == [Touch(False, False, True)]


async def test_what_another_node_has_in_hand_is_as_it_left_it(nodes, clock):
    """It has touched and not yet committed: no journal knows of that."""
    one, other = await nodes.add(), await nodes.add()
    await other.touch([hit(clock.now(), 1, "/a"), hit(clock.now(), 1, "/b")])
    await one.touch([hit(clock.advance(1), 1, "/c")])
    await one.open([SITE], clock.now())
    assert list(await other.current_on(SITE, ["/b", "/c"], clock.now())) == [1, 0]
    assert await nodes.count(one, hit(clock.now(), 1, "/a")) == [AGAIN]


async def test_what_was_committed_though_it_seemed_not_is_not_taken_back(nodes, clock):
    """The answer to a commit was lost: the store knows."""
    one = await nodes.add()
    await nodes.count(one, hit(clock.now(), 1, "/a"))
    await one.open([SITE], clock.now())
    assert await nodes.count(one, hit(clock.now(), 1, "/a")) == [AGAIN]


@pytest.mark.parametrize("restart", ["empty", "old"])
async def test_a_redis_that_forgot_is_told_again(nodes, own_redis, clock, restart):
    """Emptied or gone back to an old snapshot between two calls, it ends no visit and makes nobody new."""
    one, other = await nodes.add(), await nodes.add()
    await nodes.count(one, hit(clock.now(), 1, "/a"), hit(clock.now(), 2, "/a"))
    own_redis.ask("SAVE")
    clock.advance(100)
    await nodes.count(other, hit(clock.now(), 3, "/b"), hit(clock.now(), 2, "/b"))
    await nodes.count(one, hit(clock.now(), 4, "/b"))
    own_redis.kill()
    if restart == "empty":
        (own_redis.folder / "dump.rdb").unlink()
    own_redis.start()
    for client in nodes.clients:
        await client.connection_pool.disconnect()
    assert await other.current(SITE, clock.now()) == 4
    assert list(await one.current_on(SITE, ["/a", "/b"], clock.now())) == [1, 3]
    touches = await nodes.count(one, *(hit(clock.now(), visitor, "/b") for visitor in (2, 3, 4)))
    assert touches == [AGAIN] * 3


async def test_a_script_that_is_not_known_is_sent(nodes, own_redis, clock):
    """As after a failover; what was done is not done twice."""
    node = await nodes.add()
    await nodes.count(node, *(hit(clock.now(), visitor) for visitor in range(50)))
    own_redis.ask("SCRIPT", "FLUSH")
    touches = await nodes.count(node, *(hit(clock.now(), visitor) for visitor in range(25, 75)))
    assert touches == [AGAIN] * 25 + [FIRST] * 25


async def test_the_largest_batch_is_no_trouble(nodes, clock):
    """Ten thousand visitors, each on a page of its own; then all of them leave at once."""
    node = await nodes.add()
    hits = [hit(clock.now(), visitor, f"/{visitor}") for visitor in range(HITS_IN_OPEN_BATCH)]
    touched = await node.touch(hits)
    assert touched.current == {1: HITS_IN_OPEN_BATCH}
    assert set(touched.pages.values()) == {1}
    assert [peak.visitors for peak in touched.peaks.values()] == [HITS_IN_OPEN_BATCH]
    clock.advance(SITE.window_seconds)
    assert await node.current_on(SITE, ["/0", "/1"], clock.now()) == [0, 0]


async def test_midnight_moves_a_visit_to_another_shard(nodes, clock):
    """Also within one batch, and on another node; the trail goes along, and nobody is counted twice."""
    one, other = await nodes.add(), await nodes.add()
    clock.set(wall_ms("2026-11-23 23:59:59"))
    before = [hit(clock.now(), visitor, "/a") for visitor in range(20)]
    await nodes.count(one, *before[:10])
    clock.advance(2)
    after = [hit(clock.now(), 100 + visitor, "/b", formerly=(visitor,)) for visitor in range(20)]
    touched = await other.touch([*before[10:], *after])
    assert touched.touches[10:] == [Touch(visit=False, page_visit=True, visitor=True)] * 20
    assert touched.current == {1: 20}
    assert touched.pages == {(1, "/a"): 0, (1, "/b"): 20}
    assert max(peak.visitors for peak in touched.peaks.values()) == 20
    assert await one.current(SITE, clock.now()) == 20
    # A commit that fails gives each its former id again, but for those who had none before it.
    await other.open([SITE], clock.now())
    assert list(await one.current_on(SITE, ["/a", "/b"], clock.now())) == [10, 0]
    again = [hit(clock.now(), 100 + visitor, "/a", formerly=(visitor,)) for visitor in range(10)]
    assert await nodes.count(one, *again) == [Touch(visit=False, page_visit=False, visitor=True)] * 10


async def test_what_is_over_leaves_nothing(nodes, own_redis, clock):
    """Paths and counts of pages go with the last visit that has them, also those a long trail has lost."""
    node = await nodes.add()
    paths = [f"/{number}" for number in range(LONGEST_TRAIL + 10)]
    await nodes.count(node, *(hit(clock.now(), 1, path) for path in paths))
    await nodes.count(node, hit(clock.now(), 2, "/a"), hit(clock.now(), 2, "/b"), hit(clock.now(), 1, "/a"))
    clock.advance(1000)
    await node.trim(clock.now())
    assert sizes(own_redis, "on") == 0
    clock.advance(1000)
    await node.trim(clock.now())
    assert {
        name: sizes(own_redis, name) for name in ("seen", "trails", "paths", "holders", "on")
    } == dict.fromkeys(("seen", "trails", "paths", "holders", "on"), 0)


def sizes(server: RedisServer, name: str) -> int:
    """Of all keys of this name."""
    return sum(
        server.ask("ZCARD" if name == "seen" else "HLEN", key.decode())
        for key in server.ask("KEYS", f"*:{name}")
    )


async def test_every_key_ends_by_itself(nodes, own_redis, clock):
    """Visits within minutes of their end, the day's visitors when the next day is over."""
    node = await nodes.add()
    await nodes.count(node, *(hit(clock.now(), visitor, f"/{visitor}") for visitor in range(100)))
    kept = {key: own_redis.ask("TTL", key.decode()) for key in own_redis.ask("KEYS", "*")}
    assert len({key.rpartition(b":")[0] for key in kept}) == 2 * SHARDS
    for key, seconds in kept.items():
        name = key.rpartition(b":")[2]
        most = {b"meta": 3 * 86_400, b"2026-11-23": 37 * 3600}.get(name, SITE.visit_gap_seconds + 60)
        assert 0 < seconds <= most, key


async def test_the_first_seconds_of_a_day_know_the_store(nodes, store, clock):
    """Who was counted today by a node without Redis is not new to it."""
    touches = [FIRST]
    hits = [hit(clock.now(), 7)]
    await store.commit(Batch(1, clock.now().wall_ms, fold(hits, touches, {}), b"\x93\x00\x90\x90"))
    assert await nodes.count(await nodes.add(), hit(clock.now(), 7)) == [Touch(True, True, False)]
