"""A disk that fails: the kernel answers the running service's calls for its files with an error."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.faults import PEOPLE, SITE, acknowledged_again, check_numbers, injecting, register
from tests.load import Ledger, Outcome, loading
from tests.process import Service, answer

FAILURES = {
    "syncing the log": ("fdatasync", "-wal"),
    "writing the log": ("pwrite64", "-wal"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return register(tmp_path / "stats.db")


@pytest.mark.parametrize(
    "failure", ["syncing the log", pytest.param("writing the log", marks=pytest.mark.torture)]
)
async def test_a_failing_disk_is_told_and_recovered_from(store: Path, failure: str) -> None:
    """While it fails: 503 with Retry-After, and health says why; then all goes on by itself, also after a kill."""
    ledger = Ledger()
    call, *files = FAILURES[failure]
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=200)
            with injecting(service, call, "error=EIO", *files):
                async with asyncio.timeout(30):
                    while not ledger.of(outcome=Outcome.REFUSED):
                        await load.run([SITE], range(150), random.Random(2), enough=len(ledger.sent) + 50)
                healthy = await asyncio.to_thread(answer, service.operations, "/-/healthy")
                assert healthy.status == 503
                assert "disk I/O error" in healthy.text
            refused = ledger.of(outcome=Outcome.REFUSED)
            assert {event.status for event in refused} == {503}
            assert all(int(event.retry_after) > 0 for event in refused)
            await acknowledged_again(load)
            assert answer(service.operations, "/-/healthy").status == 200
            await check_numbers(load, ledger, store)
            await load.run([SITE], PEOPLE, random.Random(3), enough=len(ledger.sent) + 200)
            await check_numbers(load, ledger, store)
        assert not any(line.get("traceback") for line in service.lines)
        service.kill()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await check_numbers(load, ledger, store)


async def test_a_disk_that_fails_now_and_then_loses_nothing(store: Path) -> None:
    """A call that fails is made again: every event is acknowledged, and counted once."""
    await _fail_now_and_then(store, {"fdatasync": "error=EIO:when=2+3"})


@pytest.mark.torture
async def test_rounds_of_failing_calls_lose_nothing(store: Path) -> None:
    """Each call that a commit makes fails now and then, in rounds, each ended by a kill."""
    await _fail_now_and_then(
        store,
        {
            f"{call} {number}": f"error={error}:when={number}+{number + 4}"
            for call in ("pwrite64", "fdatasync", "pread64", "ftruncate")
            for number, error in ((1, "EIO"), (5, "EIO"), (9, "ENOSPC"), (14, "EIO"), (23, "EIO"))
        },
    )


async def _fail_now_and_then(store: Path, failures: dict[str, str]) -> None:
    ledger = Ledger()
    for number, (call, what) in enumerate(failures.items()):
        with Service(store) as service:
            async with loading(service.public, ledger) as load:
                await load.send(SITE, 0)
                with injecting(service, call.split()[0], what, "", "-wal"):
                    await load.run([SITE], PEOPLE, random.Random(number), enough=len(ledger.sent) + 100)
                await acknowledged_again(load)
                await check_numbers(load, ledger, store)
            assert not any(line.get("traceback") for line in service.lines), service.lines
            service.kill()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await check_numbers(load, ledger, store)
            counted = (await load.totals(SITE))["pageviews"]["total"]
    assert {event.status for event in ledger.sent} <= {202, 503}
    ledger.print_figures("I/O errors", len(failures), counted)
