"""How the world is broken around a real `statsvc serve`: its disk, its memory, its clocks, its file."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import which
from typing import NoReturn

import pytest

from tests.load import Books, Ledger, Load, Outcome, noon_zone, pageviews, visitors
from tests.process import Service, command, eventually

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


@contextmanager
def traced(service: Service, *options: str | Path, files: Sequence[str]) -> Iterator[None]:
    """strace is attached to the running service, and sees its calls for its store's files.

    `files` are endings: "" is the database, "-wal" its log, "-shm" the log's index.
    """
    if which("strace") is None:
        missing("strace is not installed")
    paths = [part for ending in files for part in ("-P", f"{service.store}{ending}")]
    with subprocess.Popen(
        ["strace", "-f", "-qq", "-p", str(service.process.pid), *paths, *options], stderr=subprocess.PIPE
    ) as strace:
        eventually(lambda: strace.poll() is not None or _all_traced(service.process.pid))
        if strace.poll():  # it ends with 0 where what it injected has ended the service already
            assert strace.stderr is not None
            missing(f"strace can't attach here: {strace.stderr.read().decode()}")
        try:
            yield
        finally:
            strace.send_signal(signal.SIGINT)
            try:
                strace.wait(2)
            except subprocess.TimeoutExpired:
                strace.kill()  # it may wait for ever for a process that it killed


def injecting(service: Service, calls: str, what: str, *files: str) -> AbstractContextManager[None]:
    """What the kernel answers, or does, when one of `calls` is made: `error=EIO`, `signal=KILL:when=3`."""
    options = ("-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{what}")
    return traced(service, *options, files=files)


def _all_traced(pid: int) -> bool:
    statuses = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")]
    return all("TracerPid:\t0\n" not in status for status in statuses)


class FakedClock:
    """Moves the wall clock of a process by whole seconds; where `all_pass` the steady one too, as time does."""

    def __init__(self, folder: Path, *, all_pass: bool = False) -> None:
        library = next(Path("/").glob(FAKETIME), None) or missing("libfaketime is not installed")
        self._offset = folder / "offset"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._offset),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "0" if all_pass else "1",
        }
        self.step_to(0)

    def step_to(self, seconds: float) -> None:
        """So far from the real time."""
        written = self._offset.with_suffix(".new")
        written.write_text(f"{seconds:+.0f}")
        written.replace(self._offset)


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
