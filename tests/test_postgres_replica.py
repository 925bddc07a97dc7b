"""A real streaming replica: read where it has all, and never older than the primary."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from statsvc.model import PageTotals, Site
from statsvc.stores.postgres import (
    PostgresDatabase,
    PostgresRegistry,
    PostgresReplica,
    PostgresStore,
    replica,
)
from tests.facts import NOON_MS, history_of
from tests.postgres import PostgresServer
from tests.process import eventually
from tests.test_stores import TODAY, a_tally, batch


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    with PostgresServer("fsync=off") as server:
        yield server


FOLLOWING = ("fsync=off", "log_statement=all")


@pytest.fixture(scope="module")
def standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    with PostgresServer(*FOLLOWING, of=primary) as server:
        yield server


@asynccontextmanager
async def reading_there(url: str, standby: PostgresServer) -> AsyncIterator[PostgresStore]:
    database = await PostgresDatabase.open(url)
    there = await PostgresReplica.open(standby.url(urlsplit(url).path[1:]))
    try:
        await PostgresRegistry(database).add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
        yield PostgresStore(database, there)
    finally:
        await there.close()
        await database.close()


def catch_up(primary: PostgresServer, standby: PostgresServer) -> None:
    position = primary.sql("SELECT pg_current_wal_flush_lsn()")
    asks = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
    eventually(lambda: standby.sql(asks) == "t", 60)


async def total(store: PostgresStore) -> PageTotals:
    history = await history_of(store, 1, TODAY, TODAY)
    assert await store.pages([(1, "/a")]) == {(1, "/a"): history.total}
    return history.total


def reads(server: PostgresServer) -> int:
    """How often totals were read there."""
    return (server.folder / "log").read_text().count("AS wanted (site")


async def read_there(standby: PostgresServer, store: PostgresStore, expected: PageTotals) -> None:
    """The replica is behind now and then, by what the primary writes of itself: ask until it was not."""
    before = reads(standby)
    async with asyncio.timeout(60):
        while reads(standby) == before:
            assert await total(store) == expected


async def test_totals_are_read_from_a_replica_that_is_not_behind(primary, standby):
    """And from the primary when it is: the number is that of the last commit every time."""
    url = primary.database()
    async with reading_there(url, standby) as store:
        await store.commit(batch(1, a_tally()))
        catch_up(primary, standby)
        await read_there(standby, store, PageTotals(1, 2))
        standby.sql("SELECT pg_wal_replay_pause()")
        eventually(lambda: standby.sql("SELECT pg_get_wal_replay_pause_state()") == "paused", 60)
        await store.commit(batch(2, a_tally()))
        assert await total(store) == PageTotals(2, 4)
        standby.sql("SELECT pg_wal_replay_resume()")


async def test_a_replica_that_is_gone_is_not_missed(primary, standby, monkeypatch):
    """Reads go to the primary, and back to the replica when it is there again."""
    monkeypatch.setattr(replica, "TRY_AGAIN_SECONDS", 0.0)
    url = primary.database()
    async with reading_there(url, standby) as store:
        await store.commit(batch(1, a_tally()))
        standby.stop()
        assert await total(store) == PageTotals(1, 2)
        standby.start()
        catch_up(primary, standby)
        await read_there(standby, store, PageTotals(1, 2))


async def test_a_replica_that_was_promoted_answers_no_more(primary):
    """It has stopped following: what it has is the past. As a primary it makes all sites new to who follows it."""
    url = primary.database()
    with PostgresServer(*FOLLOWING, of=primary) as standby:
        async with reading_there(url, standby) as store:
            await store.commit(batch(1, a_tally()))
            catch_up(primary, standby)
            followed = PostgresStore(store._database)
            await followed.changed()
            standby.sql("SELECT pg_promote()")
            await store.commit(batch(2, a_tally()))
            assert await total(store) == PageTotals(2, 4)
            # The same node, whose connections now lead to the new primary.
            promoted = await PostgresDatabase.open(standby.url(urlsplit(url).path[1:]))
            try:
                followed._database = promoted
                assert await followed.changed() == {1}
                assert await followed.changed() == set()
                assert (await history_of(followed, 1, TODAY, TODAY)).total == PageTotals(1, 2)
            finally:
                await promoted.close()
