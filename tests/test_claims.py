"""An event that is sent again to another node counts once."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from statsvc.announcements import Announcer
from statsvc.duplicates import Duplicates, Sifted
from statsvc.model import DropReason, Event
from statsvc.ports import Batch
from statsvc.presence import journal
from statsvc.presence.claims import CLAIM_SECONDS, IN_HAND_MS, FallbackClaims, RedisClaims
from statsvc.presence.fallback import FallbackPresence
from statsvc.presence.redis import RedisPresence
from statsvc.rules import receipt_of
from statsvc.stores.sqlite import SqliteStore
from statsvc.tally import Tally
from tests.facts import SITE, FakeClock, hit, seconds_pass
from tests.redis_server import PATIENCE_SECONDS, RedisServer, redis_client

NOBODY = journal.write(0, [], [])
ONCE = {0: DropReason.DUPLICATE}


class Node:
    """Sifts, and commits or doesn't, as ingest does."""

    def __init__(
        self, presence: FallbackPresence, claims: FallbackClaims, store: SqliteStore, clock: FakeClock
    ) -> None:
        self.presence = presence
        self.claims = claims
        self._duplicates = Duplicates(store, claims)
        self._store = store
        self._clock = clock

    async def sift(self, receipt: int) -> Sifted:
        return await self._duplicates.sift([hit(self._clock.now(), receipt=receipt)])

    async def commit(self, batch: int, sifted: Sifted) -> None:
        await self._store.commit(Batch(batch, self._clock.now().wall_ms, Tally(), NOBODY, sifted.receipts))

    async def settle(self) -> None:
        self._duplicates.settle()
        await self.claims.close()

    async def is_back(self) -> None:
        """Redis is used again."""
        async for _ in seconds_pass(self._clock):
            await self.presence.current(SITE, self._clock.now())
            if self.presence.is_known():
                return

    async def fail(self) -> None:
        """What the next batch does first."""
        self._duplicates.forget()
        await self.sift(0)
        await self.claims.close()


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture
async def nodes(
    server: RedisServer, store: SqliteStore, clock: FakeClock
) -> AsyncIterator[tuple[Node, Node]]:
    async with AsyncExitStack() as stack:

        async def node() -> Node:
            client = await stack.enter_async_context(redis_client(server.url))
            shared = RedisPresence(client, store, patience_seconds=PATIENCE_SECONDS)
            presence = FallbackPresence(shared, store, Announcer([]))
            stack.push_async_callback(presence.close)
            await presence.open([SITE], clock.now())
            claims = FallbackClaims(RedisClaims(client, store, patience_seconds=PATIENCE_SECONDS), presence)
            return Node(presence, claims, store, clock)

        yield await node(), await node()


async def test_an_event_that_was_counted_is_a_duplicate_on_every_node(nodes):
    """Whichever it is sent to again."""
    one, other = nodes
    assert len((await one.sift(1)).hits) == 1
    await one.settle()
    for node in nodes:
        assert (await node.sift(1)).dropped == ONCE
    assert len((await other.sift(2)).hits) == 1


async def test_an_event_that_is_in_hand_elsewhere_is_neither_counted_nor_said_to_be(nodes):
    """It may fail there yet; then it is free, and counts where it is sent to next."""
    one, other = nodes
    assert len((await one.sift(1)).hits) == 1
    sifted = await other.sift(1)
    assert (sifted.hits, sifted.dropped, sifted.in_hand) == ([], {}, {0})
    await one.fail()
    assert len((await other.sift(1)).hits) == 1


async def test_a_commit_that_seemed_to_fail_keeps_its_events(nodes):
    """Its answer was lost: the store has them."""
    one, other = nodes
    await one.commit(1, await one.sift(1))
    await one.fail()
    assert (await other.sift(1)).dropped == ONCE


@pytest.mark.parametrize("committed", [True, False])
async def test_a_node_that_ended_with_an_event_in_hand_holds_it_no_longer(nodes, clock, committed):
    """After a while the store is asked whether it is counted."""
    one, other = nodes
    sifted = await one.sift(1)
    if committed:
        await one.commit(1, sifted)
    clock.advance((IN_HAND_MS - 1) / 1000)
    assert (await other.sift(1)).in_hand == {0}
    clock.advance(0.001)
    assert (await other.sift(1)).dropped == (ONCE if committed else {})
    await other.settle()
    assert (await one.sift(2)).in_hand == set()


@pytest.mark.parametrize("how", ["hung", "killed"])
async def test_without_redis_a_node_knows_what_it_counted_itself(nodes, server, clock, how):
    """And when Redis is back, empty or not, what all had committed meanwhile."""
    one, other = nodes
    if how == "hung":
        server.hang()
        for node in nodes:
            node.claims._shared._patience_seconds = 0.2
    else:
        server.kill()
    await one.commit(1, await one.sift(1))
    await one.settle()
    assert (await one.sift(1)).dropped == ONCE
    assert not (await other.sift(2)).dropped
    server.resume() if how == "hung" else server.start()
    for node in nodes:
        node.claims._shared._patience_seconds = PATIENCE_SECONDS
        await node.is_back()
    assert (await other.sift(1)).dropped == ONCE


async def test_ids_end_by_themselves(nodes, server):
    """In hand or counted."""
    one, _ = nodes
    await one.sift(1)
    await one.settle()
    await one.sift(2)
    for key in server.ask("KEYS", "*:event:*"):
        assert 0 < server.ask("TTL", key.decode()) <= CLAIM_SECONDS


async def test_an_event_in_hand_elsewhere_is_told_503_and_then_counts(start, server, clock, patient):
    """Over HTTP: its sender comes again."""
    async with redis_client(server.url) as client, start(presence=server.url) as app:
        receipt = receipt_of(SITE, Event("pageview", "https://hue.gov.vn/", (), id="7"))
        key = f"statsvc:event:{receipt:x}"
        await client.set(key, b"another:%d" % clock.now().wall_ms)
        event = {"n": "pageview", "u": "https://hue.gov.vn/", "d": "hue.gov.vn", "id": "7"}
        answer = await app.event(503, **event)
        assert answer["error"] == "another node has the same event in hand"
        await client.delete(key)
        assert (await app.event(**event))["pageviews"]["total"] == 1
        assert (await app.event(**event))["pageviews"]["total"] == 1
