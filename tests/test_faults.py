"""Real faults: a locked file, a full disk, a read-only one."""

import asyncio
import os
import random
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.faults import (
    PEOPLE,
    SERVE,
    SITE,
    acknowledged_again,
    check_numbers,
    fill,
    locked,
    missing,
    refusal,
    register,
)
from tests.load import Books, Ledger, Outcome, loading, pageviews
from tests.process import Service


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
                    await load.until_waiting(service.operations, len(PEOPLE))
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


@pytest.mark.torture
async def test_a_disk_that_fills_up_again_and_again_loses_nothing(disk: Path) -> None:
    """In each round the disk gets full and is freed; in some the service is killed meanwhile."""
    store, ledger, rounds = register(disk / "stats.db"), Ledger(), 20
    for number in range(rounds):
        with Service(store) as service:
            async with loading(service.public, ledger) as load:
                await load.run([SITE], PEOPLE, random.Random(number), enough=len(ledger.sent) + 100)
                fill(disk)
                async with asyncio.timeout(30):
                    refused = len(ledger.of(outcome=Outcome.REFUSED))
                    while len(ledger.of(outcome=Outcome.REFUSED)) == refused:
                        await load.run([SITE], PEOPLE, random.Random(number), enough=len(ledger.sent) + 100)
                if number % 3 == 0:
                    service.kill()
                (disk / "filler").unlink()
                if number % 3:
                    await acknowledged_again(load)
                    await check_numbers(load, ledger, store)
            service.kill()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await check_numbers(load, ledger, store)
    ledger.print_figures("full disk", rounds, Books.read(store).pageviews)


async def test_memory_that_is_refused_loses_nothing(store: Path) -> None:
    """Where the system gives no more memory, the service refuses, or ends; what it acknowledged is counted."""
    await _refuse_memory(store, (0,))


@pytest.mark.torture
async def test_memory_that_is_refused_again_and_again_loses_nothing(store: Path) -> None:
    """As above, from nothing to a few megabytes more than it has, in rounds."""
    await _refuse_memory(store, [number * 100_000 for number in range(20)])


async def _refuse_memory(store: Path, headrooms: Sequence[int]) -> None:
    ledger, ended = Ledger(), 0
    for number, headroom in enumerate(headrooms):
        with Service(store) as service:
            async with loading(service.public, ledger) as load:
                await load.send(SITE, 0)
                pages = int(Path(f"/proc/{service.process.pid}/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + headroom
                resource.prlimit(service.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
                people = range(1000 * number, 1000 * number + 1000)
                await load.run([SITE], people, random.Random(number), enough=len(ledger.sent) + 2000)
                if ledger.sent[-1].outcome is Outcome.UNKNOWN:
                    await asyncio.to_thread(service.process.wait, 10)  # it is on its way out
                if service.process.poll() is None:
                    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                    resource.prlimit(service.process.pid, resource.RLIMIT_AS, unlimited)
                    await acknowledged_again(load)
                    await check_numbers(load, ledger, store)
                else:
                    ended += 1
            service.kill()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await check_numbers(load, ledger, store)
    ledger.print_figures("no memory", len(headrooms), Books.read(store).pageviews, ended_by_it=ended)
