"""What only PostgreSQL has: many nodes at once, a server that goes and comes back, a schema that is shared."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from statsvc.errors import SchemaTooNew, StoreError
from statsvc.model import PageTotals, Site
from statsvc.ports import Batch
from statsvc.stores.batch_json import as_json
from statsvc.stores.postgres import PostgresDatabase, PostgresRegistry, PostgresStore, audit, database
from statsvc.tally import Tally
from tests.facts import NOON_MS, history_of
from tests.postgres import PostgresServer, shared
from tests.test_stores import DAY_MS, TODAY, a_tally, batch

YESTERDAY = "2026-11-22"


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


@pytest.fixture
def url() -> str:
    return shared().database()


@asynccontextmanager
async def node(url: str) -> AsyncIterator[PostgresStore]:
    database = await PostgresDatabase.open(url)
    try:
        yield PostgresStore(database)
    finally:
        await database.close()


@pytest.fixture
async def nodes(url: str) -> AsyncIterator[list[PostgresStore]]:
    """Four that share a store with one site."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(node(url)) for _ in range(4)]
        await PostgresRegistry(stores[0]._database).add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
        yield stores


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"search_path": "statsvc"})
    try:
        yield connection
    finally:
        await connection.close()


async def commit_on(connection: asyncpg.Connection, of: Batch, node: int = 1) -> None:
    """As a store would, without ending the transaction."""
    call = "SELECT commit_batch($1, $2, $3, $4, $5, $6)"
    await connection.execute(call, of.id, of.at_ms, of.open_visits, node, [1], as_json(of))


async def until_it_waits(url: str) -> None:
    """For a lock of another transaction."""
    async with connected(url) as looking:
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock'"
        async with asyncio.timeout(20):
            while not await looking.fetchval(waits, name_of(url)):
                await asyncio.sleep(0.01)


def a_mixed_batch(number: int, chance: random.Random) -> Batch:
    """On the pages, days and sites that all are on, in any order."""
    keys = [(site, day, f"/{n}") for site in (1, 2, 3) for day in (YESTERDAY, TODAY) for n in range(20)]
    keys = chance.sample(keys, 60)
    tally = Tally(
        pages={key: [1, 2] for key in keys},
        days={(site, day, bot): [1, 2, 1] for site, day, _ in keys for bot in (True, False)},
        hours={(site, chance.randrange(5), False): [1, 2, 3] for site, _, _ in keys},
        names={(site, day, False, f"{path}"): 3 for site, day, path in keys},
    )
    return batch(number, tally)


async def test_many_nodes_commit_on_the_same_rows_at_once(nodes):
    """None waits for one that waits for it, and every batch is counted."""
    chance = random.Random(7)
    batches = [a_mixed_batch(number, chance) for number in range(80)]

    async def commit(store: PostgresStore, own: list[Batch]) -> None:
        for of in own:
            await store.commit(of)

    await asyncio.gather(*(commit(store, batches[n::4]) for n, store in enumerate(nodes)))
    expected: dict[tuple[int, str], list[int]] = {}
    for of in batches:
        for (site, _, path), (visits, pageviews) in of.tally.pages.items():
            counts = expected.setdefault((site, path), [0, 0])
            counts[0] += visits
            counts[1] += pageviews
    counted = await nodes[0].pages(list(expected))
    assert counted == {key: PageTotals(*counts) for key, counts in expected.items()}


@pytest.mark.parametrize("ends", ["COMMIT", "ROLLBACK"])
async def test_a_retry_waits_for_the_first_try_that_still_runs(nodes, url, ends):
    """The answer was lost, the transaction was not: whatever becomes of it, the batch counts once."""
    async with connected(url) as lost:
        await lost.execute("BEGIN")
        await commit_on(lost, batch(1, a_tally()))
        retry = asyncio.create_task(nodes[0].commit(batch(1, a_tally())))
        await until_it_waits(url)
        await lost.execute(ends)
        await retry
    assert (await history_of(nodes[1], 1, TODAY, TODAY)).total == PageTotals(1, 2)


async def test_a_batch_is_one_round_trip(url):
    """One statement, which is its own transaction."""
    shared().sql(f"ALTER DATABASE {name_of(url)} SET log_statement = 'all'")
    async with node(url) as store:
        await store.commit(batch(0, a_tally()))
        log = shared().folder / "log"
        before = log.stat().st_size
        for number in range(1, 4):
            await store.commit(batch(number, a_tally()))
        with log.open() as lines:
            lines.seek(before)
            told = [line for line in lines if line.startswith(f"{name_of(url)} LOG:")]
    assert len(told) == 3, told


async def test_what_others_commit_is_told_once(nodes):
    """One's own is not, nor what was there before the first look."""
    await nodes[1].commit(batch(1, a_tally()))
    assert await nodes[0].changed() == set()
    await nodes[0].commit(batch(2, a_tally()))
    assert await nodes[0].changed() == set()
    await nodes[1].commit(batch(3, a_tally()))
    await nodes[2].commit(batch(4, Tally(days={(2, TODAY, False): [1, 1, 1]})))
    await nodes[2].commit(batch(4, Tally(days={(2, TODAY, False): [1, 1, 1]})))
    assert await nodes[0].changed() == {1, 2}
    assert await nodes[0].changed() == set()


async def test_a_commit_that_ends_late_is_told_all_the_same(nodes, url):
    """It began before others that were told already: its number is lower, and it is seen later."""
    await nodes[0].changed()
    async with connected(url) as late:
        await late.execute("BEGIN")
        await commit_on(late, batch(1, a_tally()))
        await nodes[1].commit(batch(2, Tally(days={(2, TODAY, False): [1, 1, 1]})))
        assert await nodes[0].changed() == {2}
        await late.execute("COMMIT")
    assert await nodes[0].changed() == {1}
    assert await nodes[0].changed() == set()


async def test_pages_that_became_one_are_a_change_for_everyone(nodes):
    """Whoever holds the totals of a page that is gone reads them again."""
    pages = {(1, "2026-11-20", f"/{n}"): [1, 1] for n in range(9)}
    await nodes[0].commit(batch(1, Tally(pages=pages, days={(1, "2026-11-20", False): [9, 9, 9]})))
    for store in nodes:
        await store.changed()
    assert len(await nodes[0].fold_pages(1, 4, TODAY, "(other)")) == 5
    assert [await store.changed() for store in nodes] == [{1}] * 4


async def test_a_node_that_slept_is_told_of_what_was_forgotten_meanwhile(nodes):
    """The batches that would have told it are gone: as those of an outbox that come late may be at once."""
    await nodes[0].changed()
    await nodes[1].commit(batch(1, a_tally(), NOON_MS - DAY_MS))
    await nodes[2].forget(NOON_MS, NOON_MS, YESTERDAY)
    assert await nodes[2].open_visits() == []
    assert await nodes[0].changed() == {1}
    assert await nodes[0].changed() == set()


async def test_a_page_that_is_seen_while_pages_become_one_stays(nodes, url):
    """The event was not committed yet when the least read pages were chosen."""
    days = {(1, "2026-11-20", False): [2, 2, 2]}
    await nodes[0].commit(
        batch(1, Tally(pages={(1, "2026-11-20", f"/{n}"): [1, 1] for n in (1, 2)}, days=days))
    )
    async with connected(url) as visitor:
        await visitor.execute("BEGIN")
        today = {(1, TODAY, False): [1, 1, 1]}
        await commit_on(visitor, batch(2, Tally(pages={(1, TODAY, "/2"): [1, 1]}, days=today)))
        folding = asyncio.create_task(nodes[0].fold_pages(1, 0, TODAY, "(other)"))
        await until_it_waits(url)
        assert await nodes[1].fold_pages(1, 0, TODAY, "(other)") == []  # another has it in hand
        await visitor.execute("COMMIT")
        assert await folding == ["/1"]
    assert await nodes[0].pages([(1, "/1"), (1, "/2"), (1, "(other)")]) == {
        (1, "/2"): PageTotals(2, 2),
        (1, "(other)"): PageTotals(1, 1),
    }


async def test_every_node_keeps_house_at_once_while_others_commit(nodes, url):
    """Folding, forgetting and letting go by all of them, beside commits: nothing is lost, nobody fails."""
    chance = random.Random(3)
    ids = iter(range(10_000))

    def some() -> Tally:
        tally = Tally()
        for path in chance.sample([f"/{n}" for n in range(60)], 20):
            day = chance.choice(["2026-11-19", "2026-11-20", YESTERDAY, TODAY])
            tally.pages[1, day, path] = [1, 1]
            counts = tally.days.setdefault((1, day, False), [0, 0, 0])
            counts[0] += 1
            counts[1] += 1
            tally.names[1, day, False, "pageview"] = counts[1]
        tally.hours[1, NOON_MS // 1000, False] = [20, 20, 20]
        return tally

    async def commit(store: PostgresStore) -> None:
        for _ in range(25):
            await store.commit(batch(next(ids), some(), NOON_MS - chance.randrange(3) * DAY_MS, b"x", (1,)))

    async def keep_house(store: PostgresStore) -> None:
        for _ in range(8):
            await store.fold_pages(1, 10, YESTERDAY, "(other)")
            await store.forget(NOON_MS - DAY_MS, NOON_MS - DAY_MS, YESTERDAY)
            await store.let_go_of_page_days("2026-11-20")

    await asyncio.gather(*map(commit, nodes), *map(keep_house, nodes))
    assert (await history_of(nodes[0], 1, TODAY, TODAY)).total == PageTotals(2000, 2000)
    await keep_house(nodes[0])
    assert await nodes[0].paths(1, "2026-11-19") == set()
    assert len(await nodes[0].open_visits()) == len(await nodes[0].receipts()) > 0
    assert await asyncio.to_thread(lambda: list(audit(url, lambda *_: None))) == []


async def test_many_nodes_start_on_an_empty_database_at_once(url):
    """One makes the tables, the others wait for it."""
    async with AsyncExitStack() as stack:
        stores = await asyncio.gather(*(stack.enter_async_context(node(url)) for _ in range(5)))
        assert await asyncio.gather(*(store.version() for store in stores)) == [0] * 5


async def test_a_newer_schema_says_whom_it_lets_in(nodes, url):
    """Nodes of the previous program go on, and start again, beside those of the next; until they may not."""
    async with connected(url) as newer:
        await newer.execute(
            "ALTER TABLE batches ADD COLUMN later text; INSERT INTO schema_steps VALUES (90, 'later', 1)"
        )
        await nodes[0].commit(batch(1, a_tally()))
        async with node(url) as started:
            assert (await history_of(started, 1, TODAY, TODAY)).total == PageTotals(1, 2)
        await newer.execute("INSERT INTO schema_steps VALUES (91, 'much later', 91)")
    with pytest.raises(SchemaTooNew, match="it lets in programs that know schema 91, and this one"):
        await PostgresDatabase.open(url)


@pytest.mark.parametrize(("was", "becomes"), [("off", "on"), ("remote_apply", "remote_apply")])
async def test_a_commit_is_on_disk_whatever_the_database_is_set_to(url, was, becomes):
    """Off is overruled; what is stricter stays."""
    shared().sql(f"ALTER DATABASE {name_of(url)} SET synchronous_commit = '{was}'")
    async with node(url) as store:
        assert [tuple(row) for row in await store._database.fetch("SHOW synchronous_commit")] == [(becomes,)]


async def test_destroyed_secrets_are_in_no_file_of_the_tables(nodes, url):
    """Nor in a page's unused bytes."""
    for day in (YESTERDAY, TODAY):
        await nodes[0].secret(1, day, f"the secret of {day}".encode())
    await nodes[1].forget(0, 0, TODAY)
    files = shared().files(name_of(url))
    assert not any(f"the secret of {YESTERDAY}".encode() in bytes_ for bytes_ in files)
    assert any(f"the secret of {TODAY}".encode() in bytes_ for bytes_ in files)


async def test_a_dump_in_the_way_is_not_waited_for(nodes, url):
    """Who asks for a secret meanwhile is answered, and the old ones are destroyed when it is gone."""
    await nodes[0].secret(1, YESTERDAY, b"the secret that a dump reads")
    async with connected(url) as dump:
        await dump.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM secrets")
        await nodes[0].forget(0, 0, TODAY)
        assert await nodes[1].secret(1, TODAY, b"new") == b"new"
        await dump.execute("COMMIT")
    await nodes[0].forget(0, 0, TODAY)
    assert not any(b"the secret that a dump reads" in bytes_ for bytes_ in shared().files(name_of(url)))


async def test_a_node_needs_no_more_than_it_is_granted(url):
    """With the rights that docs/fleet.md grants, once the owner has made the tables."""
    async with node(url):
        pass
    text = (Path(__file__).parent.parent / "docs" / "fleet.md").read_text()
    grants = [line.strip() for line in text.splitlines() if line.startswith("    GRANT ")]
    role = f"node_{name_of(url)}"
    shared().sql(f"CREATE ROLE {role} LOGIN")
    for grant in grants:
        shared().sql(grant.replace("TO node", f"TO {role}"), name_of(url))
    async with node(url.replace("statsvc@", f"{role}@")) as store:
        site = await PostgresRegistry(store._database).add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
        await PostgresRegistry(store._database).set_baseline(site.id, 1, 2, "old", NOON_MS)
        await store.commit(batch(1, a_tally()))
        await store.secret(1, YESTERDAY, b"old")
        await store.forget(NOON_MS + 1, NOON_MS + 1, TODAY)
        await store.let_go_of_page_days(TODAY)
        await store.fold_pages(1, 0, TODAY, "(other)")
        await store.probe()
        assert await store.secrets() == {}
        assert (await store.space()).data_bytes > 0
        assert await store.changed() == set()
    with pytest.raises(StoreError, match=r"permission denied .*; docs/fleet\.md says what"):
        await PostgresDatabase.open(shared().database().replace("statsvc@", f"{role}@"))


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that may be stopped, and keeps what it promises."""
    with PostgresServer() as server:
        yield server


async def test_a_crashed_server_is_found_again_with_all_that_was_acknowledged(own_server):
    """While it is away, a sentence; then the same store goes on."""
    async with node(own_server.database()) as store:
        await store.commit(batch(1, a_tally()))
        own_server.stop(signal.SIGQUIT)
        with pytest.raises(StoreError, match=r"PostgreSQL at 127\.0\.0\.1:"):
            await store.commit(batch(2, a_tally()))
        own_server.start()
        await store.commit(batch(2, a_tally()))
        assert (await history_of(store, 1, TODAY, TODAY)).total == PageTotals(2, 4)


async def test_a_server_that_hangs_is_not_waited_for(own_server, monkeypatch):
    """A commit gives up; the batch may be in the store, and given again it counts once."""
    url = own_server.database()
    async with node(url):
        pass  # the tables are made without a hurry
    monkeypatch.setattr(database, "ANSWER_SECONDS", 2.0)
    async with node(url) as store:
        ((backend,),) = await store._database.fetch("SELECT pg_backend_pid()")
        stopped = (own_server.process.pid, backend)
        for number in stopped:
            os.kill(number, signal.SIGSTOP)
        try:
            with pytest.raises(StoreError, match="did not answer in time"):
                await store.commit(batch(1, a_tally()))
        finally:
            for number in stopped:
                os.kill(number, signal.SIGCONT)
        async with asyncio.timeout(60):
            while True:
                with suppress(StoreError):  # two seconds may be little
                    await store.commit(batch(1, a_tally()))
                    break
        assert (await history_of(store, 1, TODAY, TODAY)).total == PageTotals(1, 2)


async def test_the_servers_clock_is_told(nodes):
    """In milliseconds since the epoch; it goes forward."""
    first, second = await nodes[0]._database.time_ms(), await nodes[1]._database.time_ms()
    assert 1_700_000_000_000 < first <= second < 10_000_000_000_000
