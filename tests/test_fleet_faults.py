"""What befalls a fleet's servers and machines: another primary, a cut cable, clocks that differ."""

import asyncio
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from statsvc.stores.postgres import PostgresDatabase, PostgresStore
from tests.conftest import AppFactory
from tests.facts import FakeClock, wall_ms
from tests.faults import FakedClock
from tests.fleet import Counted, Fleet, hanging, numbers
from tests.load import Ledger, Outcome, figures, loading, noon_zone, until
from tests.network import namespace
from tests.postgres import PostgresServer, database_of
from tests.process import UNLIMITED, Service, answer, command, eventually
from tests.redis_server import RedisServer
from tests.test_postgres_replica import catch_up
from tests.test_stores import a_tally, batch

SITE = "hue.gov.vn"
PEOPLE = range(200)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_another_primary_has_all_that_was_acknowledged(tmp_path: Path, redis: RedisServer) -> None:
    """With a synchronous standby that is promoted under load: the nodes find it by their URL's second host."""
    ledger = Ledger()
    with ExitStack() as stack:
        primary = stack.enter_context(PostgresServer("fsync=off"))
        database = primary.database().rpartition("/")[2]
        standby = stack.enter_context(PostgresServer("fsync=off", of=primary))
        follow_in_step(primary)
        url = f"postgresql://statsvc@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/{database}"
        fleet = stack.enter_context(Fleet(tmp_path, url, redis.url, [SITE]))
        async with loading(fleet.publics, ledger) as load, asyncio.TaskGroup() as tasks:

            async def acknowledged(more: int) -> None:
                enough = len(ledger.acknowledged()) + more
                await until(lambda: len(ledger.acknowledged()) >= enough, seconds=60)

            tasks.create_task(load.run([SITE], PEOPLE, random.Random(1)))
            await acknowledged(100)
            await asyncio.to_thread(primary.stop, signal.SIGQUIT)
            await acknowledged(100)
            await asyncio.to_thread(standby.sql, "SELECT pg_promote()")
            await acknowledged(100)
            load.end()
        await asyncio.to_thread(eventually, lambda: fleet.waiting() == 0, 60)
        counted = Counted(standby, url, [SITE])
        await asyncio.to_thread(eventually, lambda: fleet.agree(SITE, counted.pageviews))
        counted.check(ledger)
        ledger.print_figures("another primary under load", 1, counted.pageviews)


async def test_a_batch_that_is_brought_again_waits_for_the_standby_as_the_first_time() -> None:
    """Where the first wait was cancelled, the primary alone has the batch: that is not yet durable."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with PostgresServer("fsync=off") as primary, PostgresServer("fsync=off", of=primary) as standby:
        url = primary.database()
        database = await PostgresDatabase.open(url)
        store = PostgresStore(database)
        follow_in_step(primary)
        with hanging(standby):
            for again in range(2):
                committing = asyncio.create_task(store.commit(batch(1, a_tally())))
                await asyncio.to_thread(eventually, lambda: primary.sql(waits) == "1")
                assert not committing.done()
                if not again:
                    committing.cancel()
                    await asyncio.gather(committing, return_exceptions=True)
        await committing
        await database.close()
        catch_up(primary, standby)
        assert standby.sql("SELECT pageviews FROM statsvc.totals", url.rpartition("/")[2]) == "2"


def follow_in_step(primary: PostgresServer) -> None:
    """From now on a commit waits for the standby."""
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
    primary.sql("SELECT pg_reload_conf()")
    eventually(lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == "sync")


async def test_a_node_that_is_cut_off_keeps_what_it_acknowledges(tmp_path: Path) -> None:
    """Packets to PostgreSQL get nowhere, and nothing says so: its events are counted when the cable is back."""
    await _cut_off(tmp_path, seconds=0)


async def test_over_midnight_without_postgresql_events_are_counted(
    start: AppFactory, clock: FakeClock, tmp_path: Path
) -> None:
    """The new day's secret is there already, and nobody was here yet on that day."""
    clock.set(wall_ms("2026-11-23 23:00"))
    with PostgresServer("fsync=off") as server:
        store = server.database()
        secrets = "SELECT count(*) FROM statsvc.secrets"
        async with start(store=store, outbox=f"{tmp_path}/outbox.db") as app:
            await app.view("/", 1)
            await asyncio.to_thread(eventually, lambda: server.sql(secrets, store.rpartition("/")[2]) == "2")
            await asyncio.to_thread(server.stop, signal.SIGQUIT)
            clock.advance(70 * 60)
            for visitor in (1, 2, 2):
                await app.view("/", visitor)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(30):
                while "visits" not in (totals := await app.event(n="engagement", u="https://hue.gov.vn/")):
                    await asyncio.sleep(0.05)
            assert totals["pageviews"]["yesterday"] == 1
            assert totals["pageviews"]["today"] == 3
            assert totals["visitors"] == {"today": 3, "yesterday": 1}
            assert totals["visits"]["today"] == 3


@pytest.mark.torture
async def test_a_full_outbox_refuses_and_a_store_that_is_back_empties_it(tmp_path: Path) -> None:
    """503 with Retry-After, and health says why; what was acknowledged before is counted, and all goes on."""
    ledger = Ledger()
    options = ("--site", SITE, "--time-zone", noon_zone(), "--outbox", str(tmp_path / "outbox.db"))
    with PostgresServer("fsync=off") as server:
        store = server.database()
        with Service(store, *options, "--outbox-size", "50kB", *UNLIMITED) as node:
            async with loading(node.public, ledger) as load, asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run([SITE], PEOPLE, random.Random(1)))
                await until(lambda: len(ledger.acknowledged()) > 50)
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                await until(lambda: ledger.of(outcome=Outcome.REFUSED))
                healthy = await asyncio.to_thread(answer, node.operations, "/-/healthy")
                assert healthy.status == 503
                assert "the outbox" in healthy.text
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(eventually, lambda: node.metric("statsvc_outbox_batches") == 0)
                acknowledged = len(ledger.acknowledged())
                await until(lambda: len(ledger.acknowledged()) > acknowledged + 50)
                load.end()
            await asyncio.to_thread(eventually, lambda: node.metric("statsvc_outbox_batches") == 0)
            assert {sent.status for sent in ledger.of(outcome=Outcome.REFUSED)} == {503}
            assert all(sent.retry_after for sent in ledger.of(outcome=Outcome.REFUSED))
            Counted(server, store, [SITE]).check(ledger)
            assert node.stop() == 0


@pytest.mark.torture
async def test_a_node_that_is_cut_off_for_minutes_is_soon_back(tmp_path: Path) -> None:
    """Connections that hang since then are none that it waits for."""
    await _cut_off(tmp_path, seconds=100)


async def _cut_off(tmp_path: Path, seconds: float) -> None:
    """At least for so long."""
    ledger = Ledger()
    with namespace() as cut, ExitStack() as stack:
        server = stack.enter_context(PostgresServer("fsync=off", f"listen_addresses=127.0.0.1,{cut.server}"))
        with (server.data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {cut.server}/24 trust\n")
        server.sql("SELECT pg_reload_conf()")
        store = server.database()
        command(store, "site", "add", SITE, "--time-zone", noon_zone())
        node = stack.enter_context(
            Service(
                store.replace("127.0.0.1", cut.server),
                *("--outbox", str(tmp_path / "outbox.db"), *UNLIMITED),
                *("--listen", f"{cut.own}:0", "--ops-listen", f"{cut.own}:0"),
                program=cut.program,
            )
        )
        async with loading(node.public, ledger) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=100)
            cut.pull()
            began, pulled = len(ledger.sent), time.monotonic()
            while len(ledger.sent) < began + 60 or time.monotonic() < pulled + seconds:
                await load.run([SITE], PEOPLE, random.Random(), enough=len(ledger.sent) + 20)
                await asyncio.sleep(min(1, seconds))
            assert answer(node.operations, "/-/healthy").status == 200
            assert node.metric("statsvc_outbox_batches") > 0
            cut.plug_in()
            plugged = time.monotonic()
            await asyncio.to_thread(eventually, lambda: node.metric("statsvc_outbox_batches") == 0, 200)
            figures(
                "a cut cable",
                seconds_cut=int(plugged - pulled),
                milliseconds_until_delivered=int(1000 * (time.monotonic() - plugged)),
            )
            await load.run([SITE], PEOPLE, random.Random(3), enough=len(ledger.sent) + 100)
        counted = Counted(server, store, [SITE])
        counted.check(ledger)
        assert numbers(node.public, SITE)["pageviews"]["total"] == counted.pageviews


async def test_nodes_whose_clocks_are_minutes_apart_have_one_time(tmp_path: Path, redis: RedisServer) -> None:
    """A visitor who hops between them is on one visit, and current on all; the moment is the same everywhere."""
    clocks = [_clock(tmp_path / str(seconds), seconds) for seconds in (-180, 0, 180)]
    store = database_of(tmp_path)
    with Fleet(tmp_path, store, redis.url, [SITE], environments=clocks) as fleet:
        command(store, "site", "set", SITE, "--window", "60", "--visit-gap", "120")
        for number in range(3):
            for hop in range(3):
                async with loading(fleet.publics[(number + hop) % 3], Ledger()) as load:
                    sent = await load.send(SITE, number)
                    assert sent
                    assert sent.status == 202
        shown = await asyncio.to_thread(eventually, lambda: fleet.agree(SITE, 9))
        assert shown["current"] == shown["visits"]["total"] == shown["visitors"]["today"] == 3
        moments = []
        for public in fleet.publics:
            async with loading(public, Ledger()) as load:
                moments.append(datetime.fromisoformat((await load.totals(SITE))["as_of"]))
        assert (max(moments) - min(moments)).total_seconds() < 90


@pytest.mark.torture
async def test_a_new_day_begins_on_all_nodes_when_it_does_on_postgresql(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Nodes whose clocks are minutes apart, at midnight: all visits go on, all visitors are those of both days."""
    now = datetime.now(ZoneInfo(noon_zone()))
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    ahead = (midnight - now).total_seconds() - 60
    with ExitStack() as stack:
        # Not in a folder of pytest's, which the server's user may not enter.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        with pytest.MonkeyPatch.context() as environment:
            for name, value in _clock(folder / "clock", ahead).items():
                environment.setenv(name, value)
            server = stack.enter_context(PostgresServer("fsync=off"))
        clocks = [_clock(tmp_path / str(seconds), seconds) for seconds in (-180, 0, 180)]
        fleet = stack.enter_context(
            Fleet(tmp_path, server.database(), redis.url, [SITE], environments=clocks)
        )
        for evening in (True, False):
            for visitor in range(3):
                for hop in range(3):
                    async with loading(fleet.publics[(visitor + hop) % 3], Ledger()) as load:
                        assert await load.send(SITE, visitor)
            counted = 9 if evening else 18
            shown = await asyncio.to_thread(eventually, lambda: fleet.agree(SITE, counted))  # noqa: B023
            assert shown["current"] == shown["visits"]["total"] == shown["visitors"]["today"] == 3
            assert shown["pageviews"]["today"] == 9
            assert shown["visitors"]["yesterday"] == (0 if evening else 3)
            if evening:
                await asyncio.to_thread(
                    eventually,
                    lambda: [of["visitors"]["yesterday"] for of in fleet.shown(SITE)] == [3] * 3,
                    90,
                )


def _clock(folder: Path, seconds: float) -> dict[str, str]:
    """The environment of a process whose wall clock is so far ahead."""
    folder.mkdir()
    clock = FakedClock(folder)
    clock.step_to(seconds)
    return clock.environment


@pytest.mark.torture
async def test_without_postgresql_and_redis_a_node_counts_on(tmp_path: Path, redis: RedisServer) -> None:
    """By its own memory, into its outbox; when both are back, all of it is counted once."""
    ledger = Ledger()
    options = ("--site", SITE, "--time-zone", noon_zone(), "--outbox", str(tmp_path / "outbox.db"))
    with PostgresServer("fsync=off") as server:
        store = server.database()
        with Service(store, *options, "--presence", redis.url, *UNLIMITED) as node:
            async with loading(node.public, ledger) as load:
                await load.run([SITE], PEOPLE, random.Random(1), enough=200)
                redis.kill()
                server.stop(signal.SIGQUIT)
                await load.run([SITE], PEOPLE, random.Random(2), enough=1000)
                assert len(ledger.acknowledged()) > 500
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(redis.start)
                await asyncio.to_thread(eventually, lambda: node.metric("statsvc_outbox_batches") == 0)
                await load.run([SITE], PEOPLE, random.Random(3), enough=1200)
            Counted(server, store, [SITE]).check(ledger)
            await asyncio.to_thread(eventually, lambda: numbers(node.public, SITE)["current"] is not None, 30)


async def test_nothing_that_is_asked_for_while_postgresql_is_gone_stops_a_node(
    tmp_path: Path, redis: RedisServer
) -> None:
    """Sites that Redis has just forgotten, bots that came nowhere before, ids: all are counted, and once."""
    others = [f"{number}.gov.vn" for number in range(3)]
    ledger = Ledger()
    named = [part for site in (SITE, *others) for part in ("--site", site)]
    options = ("--time-zone", noon_zone(), "--outbox", str(tmp_path / "outbox.db"), *named)
    with PostgresServer("fsync=off") as server:
        store = server.database()
        with Service(store, *options, "--presence", redis.url, *UNLIMITED) as node:
            async with loading(node.public, ledger, ids=True) as load:
                for site in (SITE, *others):
                    await load.send(site, 1)
                redis.kill()
                await load.send(SITE, 1)  # which finds out
                await asyncio.to_thread(redis.start)
                await asyncio.to_thread(
                    eventually, lambda: numbers(node.public, SITE)["current"] is not None, 30
                )
                server.stop(signal.SIGQUIT)
                by_a_bot = f"/hit.gif?d={SITE}&u=https%3A%2F%2F{SITE}%2F"
                assert answer(node.public, by_a_bot).status == 200
                for site in (*others, SITE, *others):
                    for visitor in (1, 2):
                        await load.send(site, visitor)
                assert ledger.outcomes() == {Outcome.ACKNOWLEDGED: len(ledger.sent)}
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(eventually, lambda: node.metric("statsvc_outbox_batches") == 0)
                await load.send(SITE, 1)
                await load.send(SITE, 3)
            Counted(server, store, [SITE, *others]).check(ledger)
            shown = numbers(node.public, SITE)
            assert shown["visits"]["total"] == 3
            # Nobody could tell that the first was here today already, before Redis forgot it.
            assert shown["visitors"]["today"] in (3, 4)
