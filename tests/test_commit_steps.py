"""A crash between every two steps of a commit: by a kill at each call, and by power cuts at each.

A kill leaves what was written; a power cut only what was synced, and of the rest any part. The cuts are
replayed from a trace of the calls that the running service made for its files.
"""

import random
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults import PEOPLE, SITE, injecting, register, traced
from tests.load import Books, Ledger, figures, loading, pageviews
from tests.process import Service

FILES = ("", "-wal", "-shm")
FULL_LOG_BYTES = 985 * 4120
"""At 1,000 pages SQLite puts the log into the file, and then begins it anew: a few commits from here."""
ONCE = ("/once/1", "/once/2", "/once/3", "/once/4")
CALLS = "pwrite64,fdatasync,fsync,ftruncate"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return register(tmp_path / "stats.db")


async def test_a_kill_at_a_few_steps_of_a_commit_loses_nothing(store: Path) -> None:
    """Before the first call, in the middle, before the sync, and before the locks are let go of."""
    with Service(store) as service:
        async with loading(service.public, Ledger()) as load:
            await load.send(SITE, 1)  # so that the day's secret is there
        service.kill()
    assert await _kill_at(store, {"pwrite64": (1, 12), "fdatasync": (1,), "fcntl": (3,)}) == 4


@pytest.mark.torture
async def test_a_kill_at_every_step_of_a_commit_loses_nothing(store: Path) -> None:
    """Also while the log is put into the file and begun anew: each call, until all commits go by untouched."""
    await _fill_log(store)
    most = {"pwrite64": 300, "fdatasync": 12, "fcntl": 40}
    rounds = await _kill_at(store, {call: range(1, number) for call, number in most.items()})
    assert rounds < sum(most.values()) - 2 * len(most), "more calls are made than were tried"


async def _fill_log(store: Path) -> None:
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            while Path(f"{store}-wal").stat().st_size < FULL_LOG_BYTES:
                await load.send(SITE, len(ledger.sent), f"/{len(ledger.sent)}")
        service.kill()


async def _kill_at(store: Path, steps: Mapping[str, Iterable[int]]) -> int:
    """Kill at the n-th of a call, of each call until commits make no more of it; how often that was."""
    template = store.parent / "template"
    shutil.copytree(store.parent, template, ignore=shutil.ignore_patterns("template"))
    before = Books.read(store).pageviews
    ledger, rounds, counted = Ledger(), 0, 0
    for call, numbers in steps.items():
        for number in numbers:
            for file in template.iterdir():
                shutil.copy(file, store.parent)
            sent = await _kill_once(store, f"signal=KILL:when={number}", call)
            counted += _check_once(store, sent, before)
            ledger.sent += sent.sent
            if len(sent.acknowledged()) == len(ONCE):
                break
            rounds += 1
    shutil.rmtree(template)
    ledger.print_figures("kill at each step of a commit", rounds, counted)
    return rounds


async def _kill_once(store: Path, what: str, call: str) -> Ledger:
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            with injecting(service, call, what, *FILES):
                for path in ONCE:
                    await load.send(SITE, 1, path)
        service.kill()
    return ledger


def _check_once(store: Path, ledger: Ledger, before: int) -> int:
    """After a restart; how many of the pages are counted."""
    with Service(store) as service:
        books = Books.read(store)
        service.kill()
    once = {path: views for path, views in books.pages.items() if path in ONCE}
    assert {event.path for event in ledger.acknowledged()} <= once.keys() <= {e.path for e in ledger.sent}
    assert set(once.values()) <= {1}, "counted twice"
    assert books.pageviews == before + len(once)
    assert books.disagreements() == []
    return len(once)


class Call(NamedTuple):
    at: float
    """Seconds since the epoch, when it was made."""
    name: str
    file: str
    """The ending of its name."""
    data: bytes
    place: int


async def test_a_power_cut_at_any_step_loses_nothing(store: Path) -> None:
    """Of what was written and not synced any part may be there: all that was acknowledged before is."""
    await _cut_power(store, events=250, cuts=150)


@pytest.mark.torture
async def test_thousands_of_power_cuts_lose_nothing(store: Path) -> None:
    """As above, over a load that fills the log more than once."""
    await _fill_log(store)
    await _cut_power(store, events=2500, cuts=4000)


async def _cut_power(store: Path, events: int, cuts: int) -> None:
    ledger, chance, trace = Ledger(), random.Random(1), store.parent / "trace"
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.send(SITE, 0)
            # Stopped: housekeeping that begins with the service would write between the copy and the trace.
            service.process.send_signal(signal.SIGSTOP)
            first = {end: Path(f"{store}{end}").read_bytes() for end in ("", "-wal")}
            wall = time.time() - time.monotonic()
            with traced(
                service, "-o", trace, "-y", "-ttt", "-xx", "-s", "5000", "-e", f"trace={CALLS}", files=FILES
            ):
                service.process.send_signal(signal.SIGCONT)
                await load.run([SITE], PEOPLE, chance, enough=events)
        service.kill()
    calls = _calls(trace, store)
    trace.unlink()
    disk = store.parent / "disk"
    disk.mkdir()
    for cut in chance.choices(range(len(calls)), k=cuts):
        _check_cut(calls[:cut], calls[cut].at - wall, first, disk / "stats.db", ledger, chance)
    figures(
        "power cuts",
        rounds=cuts,
        sent=pageviews(ledger.sent),
        acknowledged=pageviews(ledger.acknowledged()),
        lost=0,
        counted_twice=0,
    )


def _calls(trace: Path, store: Path) -> list[Call]:
    calls = []
    pattern = re.compile(r"\d+ +([\d.]+) (\w+)\(\d+<([^>]*)>(?:, (?:\"([^\"]*)\"\.*, \d+, )?(\d+))?\) = \d+")
    for line in trace.read_text().splitlines():
        if " --- " in line:
            continue  # a signal
        found = pattern.match(line)
        assert found, line[:200]
        at, name, path, data, place = found.groups()
        path = path.encode().decode("unicode_escape")
        calls.append(
            Call(
                float(at),
                name,
                path.removeprefix(str(store)),
                bytes.fromhex((data or "").replace("\\x", "")),
                int(place or 0),
            )
        )
    return calls


def _check_cut(
    calls: list[Call], at: float, first: dict[str, bytes], disk: Path, ledger: Ledger, chance: random.Random
) -> None:
    for end, contents in first.items():
        here = [call for call in calls if call.file == end]
        synced = max((number for number, call in enumerate(here) if "sync" in call.name), default=0)
        image = bytearray(contents)
        for number, call in enumerate(here):
            if "sync" not in call.name:
                _apply(call, image, chance if number > synced else None)
        Path(f"{disk}{end}").write_bytes(image)
    with closing(sqlite3.connect(disk)) as database:  # as the service opens it: recovered
        database.execute("SELECT count(*) FROM sites")
        books = Books.read(disk)
    sent = {event.path for event in ledger.sent if event.began < at}
    acknowledged = [event for event in ledger.acknowledged() if event.ended < at]
    once = {path: views for path, views in books.pages.items() if path.startswith("/once/") and views}
    wanted = {
        event.path for event in acknowledged if event.name == "pageview" and event.path.startswith("/once/")
    }
    assert wanted <= once.keys() <= sent
    assert set(once.values()) <= {1}, "counted twice"
    assert pageviews(acknowledged) <= books.pageviews
    assert books.disagreements() == []


def _apply(call: Call, image: bytearray, chance: random.Random | None) -> None:
    """The whole call; where it was not yet synced, the whole, a part of it or nothing."""
    if call.name == "ftruncate":
        if chance is None or chance.random() < 0.5:
            del image[call.place :]
        return
    kept = len(call.data) if chance is None else chance.choice((0, len(call.data) // 2, len(call.data)))
    if kept:
        image.extend(bytes(max(0, call.place + kept - len(image))))
        image[call.place : call.place + kept] = call.data[:kept]
