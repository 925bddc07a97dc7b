"""Real faults: a locked file, a full disk, a read-only one, a file that is no database, a clock that steps."""

import asyncio
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

import pytest

from tests.load import Books, Ledger, Load, Outcome, loading, noon_zone, pageviews, visitors
from tests.process import Service, command

SITE = "hue.gov.vn"
PEOPLE = range(100)
SERVE = ("serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
FAKETIME = "usr/lib/*/faketime/libfaketime.so.1"


def missing(what: str, *, in_ci: bool = True) -> NoReturn:
    """A laptop may be without; CI may not, where `in_ci` says it has it."""
    if in_ci and os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def register(store: Path) -> Path:
    command(store, "site", "add", SITE, "--time-zone", noon_zone())
    return store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return register(tmp_path / "stats.db")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "statsvc-test", folder], check=False)
    if done.returncode:
        missing("mounting a file system is not permitted here", in_ci=os.geteuid() == 0)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Another process is in the middle of a transaction."""
    program = (
        "import sqlite3, sys; database = sqlite3.connect(sys.argv[1], isolation_level=None);"
        " database.execute('BEGIN IMMEDIATE'); print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        process.communicate()


async def check_numbers(load: Load, ledger: Ledger, store: Path) -> None:
    """Acknowledged ≤ counted ≤ sent; all visitors are current, since all of it takes less than the window."""
    totals = await load.totals(SITE)
    acknowledged = ledger.acknowledged()
    assert pageviews(acknowledged) <= totals["pageviews"]["total"] <= pageviews(ledger.sent)
    assert len(visitors(acknowledged)) <= totals["visits"]["total"] <= len(visitors(ledger.sent))
    assert totals["visits"]["total"] == totals["visitors"]["today"] == totals["current"]["visitors"]
    books = Books.read(store)
    assert books.disagreements() == []
    assert books.pageviews == totals["pageviews"]["total"]


async def acknowledged_again(load: Load) -> None:
    """Until an event is: nobody helps."""
    async with asyncio.timeout(20):
        while not ((sent := await load.send(SITE, 0)) and sent.outcome is Outcome.ACKNOWLEDGED):
            await asyncio.sleep(0.05)


async def test_a_short_lock_is_waited_out(store: Path) -> None:
    """Another process' transaction delays the answer, and nothing else: 202, counted once."""
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.send(SITE, 0)
            async with asyncio.TaskGroup() as tasks:
                with locked(store):
                    for visitor in PEOPLE:
                        tasks.create_task(load.send(SITE, visitor))
                    await load.until_all_wait(service.operations)
            assert len(ledger.acknowledged()) == len(ledger.sent)
            assert (await load.totals(SITE))["pageviews"]["total"] == len(ledger.sent)
            await check_numbers(load, ledger, store)


async def test_a_long_lock_is_told_and_recovered_from(store: Path) -> None:
    """Events that can't be committed are answered 503 with Retry-After; after the lock all goes on by itself."""
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=300)
            with locked(store):
                async with asyncio.TaskGroup() as tasks:
                    for visitor in range(200, 220):
                        tasks.create_task(load.send(SITE, visitor))
                assert (await load.totals(SITE))["pageviews"]["total"] == pageviews(ledger.acknowledged())
            refused = ledger.of(outcome=Outcome.REFUSED)
            assert {event.status for event in refused} == {503}
            assert all(int(event.retry_after) > 0 for event in refused)
            await acknowledged_again(load)
            await check_numbers(load, ledger, store)
            await load.run([SITE], PEOPLE, random.Random(2), enough=len(ledger.sent) + 300)
            await check_numbers(load, ledger, store)


async def test_a_full_disk_is_told_and_recovered_from(disk: Path) -> None:
    """On a full disk: 503 with Retry-After, totals still read; with room again it goes on, counted is acknowledged."""
    store, ledger = register(disk / "stats.db"), Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=300)
            fill(disk)
            async with asyncio.timeout(30):
                while not ledger.of(outcome=Outcome.REFUSED):
                    await load.run([SITE], range(200), random.Random(2), enough=len(ledger.sent) + 100)
            refused = ledger.of(outcome=Outcome.REFUSED)
            assert {event.status for event in refused} == {503}
            assert all(int(event.retry_after) > 0 for event in refused)
            assert (await load.totals(SITE))["pageviews"]["total"] == pageviews(ledger.acknowledged())
            (disk / "filler").unlink()
            await acknowledged_again(load)
            await load.run([SITE], PEOPLE, random.Random(3), enough=len(ledger.sent) + 300)
            assert (await load.totals(SITE))["pageviews"]["total"] == pageviews(ledger.acknowledged())
            await check_numbers(load, ledger, store)
        assert service.stop() == 0


async def test_a_kill_on_a_full_disk_loses_nothing(disk: Path) -> None:
    """Killed while the disk is full and started again with room: counted is what was acknowledged."""
    store, ledger = register(disk / "stats.db"), Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            fill(disk)
            async with asyncio.timeout(30):
                while not ledger.of(outcome=Outcome.REFUSED):
                    await load.run([SITE], PEOPLE, random.Random(1), enough=len(ledger.sent) + 100)
        service.kill()
    (disk / "filler").unlink()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            assert (await load.totals(SITE))["pageviews"]["total"] == pageviews(ledger.acknowledged())
            await check_numbers(load, ledger, store)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass


def refusal(store: Path, *arguments: str) -> str:
    """The last line of a command that must not succeed: it has to end by itself, with exit status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", *arguments, "--store", f"sqlite://{store}"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_a_read_only_disk_is_told(disk: Path) -> None:
    """The file is named, and the exit status is 1."""
    store = register(disk / "stats.db")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert refusal(store, *SERVE) == f"statsvc: {store} can't be opened: Read-only file system"


def test_a_read_only_file_is_told(disk: Path) -> None:
    """A file that can't be written, in a folder that can: it is named, and the exit status is 1."""
    store = register(disk / "stats.db")
    subprocess.run(["mount", "--bind", store, store], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", store], check=True)
    try:
        assert str(store) in refusal(store, *SERVE)
    finally:
        subprocess.run(["umount", store], check=True)


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    """The file is named with what to do, the exit status is 1, and the file has not changed."""
    store = tmp_path / "stats.db"
    store.write_bytes(random.Random(1).randbytes(100_000))
    check_refused_as_damaged(store)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
async def test_a_truncated_database_is_told_and_left_alone(store: Path, kept: float) -> None:
    """The file is named with what to do, the exit status is 1, and the file has not changed."""
    with Service(store) as service:
        async with loading(service.public, Ledger()) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=300)
        assert service.stop() == 0
    os.truncate(store, int(store.stat().st_size * kept))
    check_refused_as_damaged(store)


def test_an_emptied_database_is_told_and_left_alone(store: Path) -> None:
    """A file that was served and is empty now is no new counter: 0 where there was a million."""
    with Service(store) as service:
        assert service.stop() == 0
    os.truncate(store, 0)
    assert f"{store} is empty, though it has been served before" in refusal(store, *SERVE)
    assert store.stat().st_size == 0


def test_another_programs_database_is_told_and_left_alone(tmp_path: Path) -> None:
    """Our tables are not put between those of another program."""
    store = tmp_path / "app.db"
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("CREATE TABLE theirs (id)")
    before = store.read_bytes()
    assert f"{store} is a database of another program" in refusal(store, *SERVE)
    assert store.read_bytes() == before


def check_refused_as_damaged(store: Path) -> None:
    before = store.read_bytes()
    for arguments in (SERVE, ("site", "list")):
        said = refusal(store, *arguments)
        assert said.startswith(f"statsvc: {store} is not a sound statsvc database (")
        assert said.endswith("put it aside and restore a backup to this path.")
        assert store.read_bytes() == before


def test_a_newer_schema_is_told(store: Path) -> None:
    """A program older than the file says so and exits with 1."""
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("INSERT INTO schema_steps VALUES (999, 'of the future', '2030-01-01T00:00:00Z')")
    said = refusal(store, *SERVE)
    assert said.startswith(f"statsvc: {store} has schema 999, written by a newer statsvc;")


class FakedClock:
    """Moves the wall clock of a process by whole seconds, and not its steady one."""

    def __init__(self, folder: Path) -> None:
        library = next(Path("/").glob(FAKETIME), None) or missing("libfaketime is not installed")
        self._offset = folder / "offset"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.step_to(0)

    def step_to(self, seconds: float) -> None:
        """So far from the real time."""
        written = self._offset.with_suffix(".new")
        written.write_text(f"{seconds:+.0f}")
        written.replace(self._offset)


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
