"""A whole fleet: three nodes, PostgreSQL, Redis and nginx, all real; and what breaks."""

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from statsvc.api.stream import LEAST_INTERVAL_SECONDS
from tests.fleet import Counted, Fleet, following, hanging, numbers
from tests.load import PAGES, Ledger, Load, figures, loading, noon_zone, until, visitors
from tests.nodes import Nginx
from tests.postgres import PostgresServer, database_of, shared
from tests.process import UNLIMITED, Service, command, eventually
from tests.redis_server import RedisServer

HOPPED, FOLLOWED, WITHOUT_REDIS, LONG_WITHOUT_REDIS, WITHOUT_POSTGRESQL = SITES = [
    f"{word}.gov.vn" for word in ("hop", "follow", "redis", "long", "postgresql")
]
PEOPLE = 60


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def fleet(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Each test that uses it has a site of its own."""
    folder = tmp_path_factory.mktemp("fleet")
    with Fleet(folder, database_of(folder), redis.url, SITES[:4]) as fleet:
        yield fleet


@pytest.fixture
def postgres() -> Iterator[PostgresServer]:
    """A server of the test's own, to be stopped and killed; a killed process loses nothing without fsync."""
    with PostgresServer("fsync=off", "max_connections=100") as server:
        yield server


async def test_three_nodes_behind_nginx_count_as_one_does(fleet: Fleet, tmp_path: Path) -> None:
    """Pageviews, visits, visitors, current and pages of people who hop between nodes: as of one SQLite node."""
    chance = random.Random(1)
    walks = {
        visitor: [
            (chance.choice(PAGES), chance.choice(("pageview", "pageview", "engagement", "Download")))
            for _ in range(chance.randrange(1, 12))
        ]
        for visitor in range(PEOPLE)
    }

    async def walk(load: Load, visitor: int) -> None:
        for path, name in walks[visitor]:
            sent = await load.send(HOPPED, visitor, path, name)
            assert sent
            assert sent.status == 202

    async def walk_all(public: str) -> None:
        async with loading(public, Ledger()) as load, asyncio.TaskGroup() as tasks:
            for visitor in walks:
                tasks.create_task(walk(load, visitor))

    with Nginx(tmp_path, fleet.publics) as nginx:
        await walk_all(nginx.at)
    by_node = [node.metric("statsvc_commit_batch_events_sum") for node in fleet.nodes]
    assert min(by_node) > 0
    with Service(tmp_path / "one.db", "--site", HOPPED, "--time-zone", noon_zone(), *UNLIMITED) as one:
        await walk_all(one.public)
        expected = numbers(one.public, HOPPED, PAGES)
    assert expected["visitors"]["today"] == expected["current"] == PEOPLE
    await asyncio.to_thread(eventually, lambda: fleet.shown(HOPPED, *PAGES) == [expected] * 3)


async def test_every_node_and_every_stream_shows_what_another_counts(fleet: Fleet) -> None:
    """Totals and current visitors, on the nodes that did not count the event as on the one that did."""
    await _follow(fleet, rounds=1)


@pytest.mark.torture
async def test_how_soon_every_node_shows_what_another_counts(fleet: Fleet) -> None:
    """As above, for longer, and prints how soon."""
    seconds = sorted(await _follow(fleet, rounds=30))
    figures(
        "milliseconds until all streams told", median=int(1000 * seconds[15]), most=int(1000 * seconds[-1])
    )


async def _follow(fleet: Fleet, rounds: int) -> list[float]:
    took: list[float] = []
    async with following(fleet.publics, FOLLOWED) as followers:
        await until(lambda: all(follower.totals for follower in followers))
        before = followers[0].pageviews()
        for number in range(before + 1, before + 1 + rounds):
            if took:  # two messages may come at once: first as many must have had their interval
                rested_at = max(f.told_at for f in followers) + 2 * LEAST_INTERVAL_SECONDS
                await until(lambda: time.monotonic() > rested_at)  # noqa: B023
            async with loading(fleet.publics[number % 3], Ledger()) as load:
                sent = await load.send(FOLLOWED, number)
            assert sent
            await until(lambda: [f.pageviews() for f in followers] == [number] * 3)  # noqa: B023
            took.append(max(follower.told_at for follower in followers) - sent.ended)
            shown = await asyncio.to_thread(eventually, lambda: fleet.agree(FOLLOWED, number))  # noqa: B023
            assert (shown["current"], shown["visits"]["total"]) == (number, number)
    return took


async def test_while_redis_is_gone_all_is_counted_and_who_is_current_is_unknown(
    fleet: Fleet, redis: RedisServer
) -> None:
    """It hangs, it dies, and comes back empty: then all who were here are current, and nothing was counted twice."""
    await _lose_redis(fleet, redis, WITHOUT_REDIS, events=150)


@pytest.mark.torture
async def test_a_minute_without_redis_under_load(fleet: Fleet, redis: RedisServer) -> None:
    """As above, for longer."""
    await _lose_redis(fleet, redis, LONG_WITHOUT_REDIS, events=3500)


async def _lose_redis(fleet: Fleet, redis: RedisServer, site: str, events: int) -> None:
    ledger = Ledger()

    def currents() -> set[int | None]:
        return {shown["current"] for shown in fleet.shown(site)}

    async with loading(fleet.publics, ledger) as load, asyncio.TaskGroup() as tasks:

        async def acknowledged(more: int) -> None:
            enough = len(ledger.acknowledged()) + more
            await until(lambda: len(ledger.acknowledged()) >= enough, seconds=120)

        tasks.create_task(load.run([site], range(400), random.Random()))
        await acknowledged(events)
        redis.hang()
        await acknowledged(events)
        await asyncio.to_thread(eventually, lambda: currents() == {None})
        redis.kill()
        await acknowledged(events)
        assert await asyncio.to_thread(currents) == {None}
        await asyncio.to_thread(redis.start)
        await asyncio.to_thread(eventually, lambda: None not in currents(), 30)
        await acknowledged(events)
        load.end()
    counted = Counted(shared(), fleet.store, [site])
    shown = await asyncio.to_thread(eventually, lambda: fleet.agree(site, counted.pageviews))
    assert len(visitors(ledger.acknowledged())) <= shown["current"] <= len(visitors(ledger.sent))
    counted.check(ledger)
    ledger.print_figures("Redis gone under load", 1, counted.pageviews, visits=shown["visits"]["total"],
                         visitors=len(visitors(ledger.sent)))  # fmt: skip


async def test_while_postgresql_is_gone_what_is_acknowledged_is_kept_and_then_counted_once(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    """It hangs, a node is killed, it dies, and both come back: nothing is lost, nothing is counted twice."""
    await _lose_postgresql(tmp_path, postgres, redis, [WITHOUT_POSTGRESQL], events=150)


@pytest.mark.torture
async def test_a_minute_without_postgresql_under_load(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer
) -> None:
    """As above, for longer."""
    sites = [f"site{number}.gov.vn" for number in range(40)]
    await _lose_postgresql(tmp_path, postgres, redis, sites, events=10_000)


async def _lose_postgresql(
    tmp_path: Path, postgres: PostgresServer, redis: RedisServer, sites: list[str], events: int
) -> None:
    ledger = Ledger()
    with Fleet(tmp_path, postgres.database(), redis.url, sites) as fleet:
        async with loading(fleet.publics, ledger) as load:

            async def acknowledged(more: int) -> None:
                enough = len(ledger.acknowledged()) + more
                await until(lambda: len(ledger.acknowledged()) >= enough, seconds=120)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load.run(sites, range(400), random.Random()))
                await acknowledged(events // 4)
                with hanging(postgres):
                    began = time.monotonic()
                    await acknowledged(events)
                    waiting = await asyncio.to_thread(fleet.waiting)
                    assert waiting > 0
                    await asyncio.to_thread(fleet.nodes[0].kill)
                    await acknowledged(events // 4)
                await acknowledged(events // 4)
                await asyncio.to_thread(postgres.stop, signal.SIGQUIT)
                await acknowledged(events)
                away = time.monotonic() - began
                await asyncio.to_thread(postgres.start)
                back = time.monotonic()
                await asyncio.to_thread(fleet.start, 0)
                await acknowledged(events // 4)
                load.end()
            await asyncio.to_thread(eventually, lambda: fleet.waiting() == 0, 60)
            delivered = time.monotonic() - back
        counted = Counted(postgres, fleet.store, sites)
        for site, pageviews in counted.sites.items():
            await asyncio.to_thread(eventually, lambda: fleet.agree(site, pageviews))  # noqa: B023
        counted.check(ledger)
        assert "add up" in command(fleet.store, "check")
        ledger.print_figures(
            "PostgreSQL gone under load",
            1,
            counted.pageviews,
            seconds_away=int(away),
            batches_waiting=waiting,
            seconds_until_delivered=int(delivered),
        )
