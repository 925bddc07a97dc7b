"""Clocks that step, and days of 23 and 25 hours, in the life of a real process."""

import asyncio
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.faults import PEOPLE, SITE, FakedClock, check_numbers, register
from tests.load import Books, Ledger, Load, loading, noon_zone, until
from tests.process import Service, command


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return register(tmp_path / "stats.db")


@pytest.fixture
def wall_clock(tmp_path: Path) -> FakedClock:
    return FakedClock(tmp_path)


@pytest.mark.parametrize("step_seconds", [-3600, 3600])
async def test_a_step_of_the_wall_clock_changes_nobody(
    store: Path, wall_clock: FakedClock, step_seconds: int
) -> None:
    """When the wall clock steps by an hour and back, all stay current and no visit begins anew."""
    with Service(store, env=wall_clock.environment) as service:
        async with loading(service.public, Ledger()) as load:
            for visitor in range(3):
                await load.send(SITE, visitor)
            for there in (step_seconds, 0):
                wall_clock.step_to(there)
                totals = await load.totals(SITE)
                off = datetime.fromisoformat(totals["as_of"]) - datetime.now(UTC)
                assert abs(off.total_seconds() - there) < 60, "the clock was not moved"
                assert totals["current"]["visitors"] == 3
                await load.send(SITE, 1)
                totals = await load.totals(SITE)
                assert totals["current"]["visitors"] == totals["visits"]["total"] == 3
                assert totals["visitors"]["today"] == 3


async def test_a_crash_over_midnight_changes_nobody(store: Path, wall_clock: FakedClock) -> None:
    """Killed before local midnight and again after it: one visit, current all along, a visitor of both days."""
    before_midnight = (datetime.now(ZoneInfo(noon_zone())) + timedelta(days=1)).replace(
        hour=0, minute=0, second=0, microsecond=0
    ) - timedelta(seconds=60)
    offset = (before_midnight - datetime.now(UTC)).total_seconds()
    ledger = Ledger()

    async def numbers(load: Load) -> tuple[int, int, int, int]:
        totals = await load.totals(SITE)
        days = totals["visitors"]
        return totals["current"]["visitors"], totals["visits"]["total"], days["yesterday"], days["today"]

    wall_clock.step_to(offset)
    with Service(store, env=wall_clock.environment) as service:
        async with loading(service.public, ledger) as load:
            await load.send(SITE, 1)
            await load.send(SITE, 2)
            assert await numbers(load) == (2, 2, 0, 2)
        service.kill()
    wall_clock.step_to(offset + 120)
    with Service(store, env=wall_clock.environment) as service:
        async with loading(service.public, ledger) as load:
            assert await numbers(load) == (2, 2, 2, 0)
            await load.send(SITE, 1)
            assert await numbers(load) == (2, 2, 2, 1)
        service.kill()
    with Service(store, env=wall_clock.environment) as service:
        async with loading(service.public, ledger) as load:
            assert await numbers(load) == (2, 2, 2, 1)
            await load.send(SITE, 1)
            await load.send(SITE, 2)
            assert await numbers(load) == (2, 2, 2, 2)


async def test_a_clock_that_steps_under_load_loses_nothing(store: Path, wall_clock: FakedClock) -> None:
    """Set by hours to and fro while events come: all are acknowledged, and counted once."""
    await _step_under_load(store, wall_clock, rounds=5)


@pytest.mark.torture
async def test_a_clock_that_steps_a_hundred_times_under_load_loses_nothing(
    store: Path, wall_clock: FakedClock
) -> None:
    """As above, for longer."""
    await _step_under_load(store, wall_clock, rounds=100)


async def _step_under_load(store: Path, wall_clock: FakedClock, rounds: int) -> None:
    ledger, chance = Ledger(), random.Random(1)
    with Service(store, env=wall_clock.environment) as service:
        async with loading(service.public, ledger) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run([SITE], PEOPLE, chance, enough=150 * rounds))
            for number in range(rounds):
                await until(lambda: len(ledger.sent) >= 150 * number)  # noqa: B023 - waited for here
                wall_clock.step_to(3600 * chance.choice((-8, -5, -1, 1, 5, 8)))
        async with loading(service.public, ledger) as load:
            await check_numbers(load, ledger, store)
        assert service.stop() == 0
    assert len(ledger.acknowledged()) == len(ledger.sent)
    ledger.print_figures("clock set by hours", rounds, Books.read(store).pageviews)


DAYS_OF_CHANGE = {
    "25 hours": (
        "2026-10-25",
        # Local times 00:30, 02:30 in summer, 02:30 in winter, 23:30; and 00:30 on the next day.
        ("2026-10-24 22:30", "2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 22:30", "2026-10-25 23:30"),
    ),
    "23 hours": (
        "2026-03-29",
        # 00:30, 01:30 in winter, 03:30 in summer, 23:30; and 00:30 on the next day.
        ("2026-03-28 23:30", "2026-03-29 00:30", "2026-03-29 01:30", "2026-03-29 21:30", "2026-03-29 22:30"),
    ),
}


@pytest.mark.parametrize("length", DAYS_OF_CHANGE)
async def test_a_day_when_the_clocks_change(tmp_path: Path, length: str) -> None:
    """Events before, during and after the change are in their own hours, and in the right one of two days."""
    store, clock = tmp_path / "stats.db", FakedClock(tmp_path, all_pass=True)
    day, moments = DAYS_OF_CHANGE[length]
    at = [datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in moments]
    command(store, "site", "add", SITE, "--time-zone", "Europe/Berlin")
    clock.step_to((at[0] - datetime.now(UTC)).total_seconds())
    with Service(store, env=clock.environment) as service:
        for number, moment in enumerate(at, start=1):
            clock.step_to((moment - datetime.now(UTC)).total_seconds())
            async with loading(service.public, Ledger()) as load:  # connections don't last for hours
                assert await load.send(SITE, 1)
                totals = await load.totals(SITE)
                assert totals["pageviews"]["total"] == totals["visits"]["total"] == number
                next_day = number == len(at)
                assert totals["pageviews"]["today"] == (1 if next_day else number)
                assert totals["pageviews"]["yesterday"] == (number - 1 if next_day else 0)
                assert totals["visitors"]["today"] == 1
        assert service.stop() == 0
    with closing(sqlite3.connect(store)) as database:
        hours = [
            hour for (hour,) in database.execute("SELECT hour FROM hours WHERE pageviews = 1 ORDER BY hour")
        ]
        days = dict(database.execute("SELECT day, pageviews FROM days"))
    assert hours == [int(moment.replace(minute=0).timestamp()) for moment in at]
    assert days[day] == 4
    assert sum(days.values()) == 5
