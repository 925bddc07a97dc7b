"""Files that are no store, or no longer a sound one: told with what to do, and left as they are."""

import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults import PEOPLE, SERVE, SITE, refusal, register
from tests.load import Books, Ledger, Load, Outcome, figures, loading, pageviews
from tests.process import Service, answer

LINES = {"started", "stopping", "stopped", "commit failed", "fault"}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return register(tmp_path / "stats.db")


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


@pytest.mark.parametrize("served", [True, False])
def test_an_emptied_database_is_told_and_left_alone(store: Path, served: bool) -> None:
    """An empty file is no new counter, with or without a lock beside it: 0 where there was a million."""
    if served:
        with Service(store) as service:
            assert service.stop() == 0
    os.truncate(store, 0)
    assert f"{store} is empty: no store, or one that has lost everything" in refusal(store, *SERVE)
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
        assert said.endswith("put it aside, with its -wal and -shm, and restore a backup to this path.")
        assert store.read_bytes() == before


def test_a_newer_schema_is_told(store: Path) -> None:
    """A program older than the file says so and exits with 1."""
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("INSERT INTO schema_steps VALUES (999, 'of the future', '2030-01-01T00:00:00Z')")
    said = refusal(store, *SERVE)
    assert said.startswith(f"statsvc: {store} has schema 999, written by a newer statsvc;")


async def served(store: Path, *, kill: bool, enough: int = 300) -> Ledger:
    """A store that has been served; its log is there where it was killed."""
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.run([SITE], PEOPLE, random.Random(1), enough=enough)
        if kill:
            service.kill()
        else:
            assert service.stop() == 0
    return ledger


def check_log(service: Service) -> None:
    """A few lines, each a sentence."""
    assert {line.get("event") for line in service.lines} <= LINES, service.lines
    assert not any(line.get("traceback") for line in service.lines), service.lines
    assert len(service.lines) < 10


def overwrite(path: Path, offset: int, count: int = 1) -> None:
    """Each of `count` bytes becomes another."""
    with path.open("r+b") as file:
        file.seek(offset)
        was = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ 0xFF for byte in was))


def last_pages_of(store: Path, table: str) -> int:
    """Where in the file those rows of a table lie that come last."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        ((root,),) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
        ((page_bytes,),) = database.execute("PRAGMA page_size")
    offset = (root - 1) * page_bytes
    page = store.read_bytes()[offset : offset + 12]
    assert page[0] == 2, (
        "one page holds the whole table"
    )  # https://www.sqlite.org/fileformat.html#b_tree_pages
    return (int.from_bytes(page[8:12], "big") - 1) * page_bytes


async def test_damage_that_is_met_later_is_told_and_left_alone(store: Path) -> None:
    """A page that is first read while serving: 503 from then on, health says why, and no byte is written."""
    ledger = await served(store, kill=False)
    overwrite(store, last_pages_of(store, "page_days"), 100)  # which nobody reads before the first event
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            assert answer(service.operations, "/-/healthy").status == 200
            assert await status_of_an_event(load) == 503
            before = files_of(store)
            assert await status_of_an_event(load) == 503
            healthy = answer(service.operations, "/-/healthy")
            assert healthy.status == 503
            assert f"{store} is not a sound statsvc database (" in healthy.text
            assert "restore a backup to this path" in healthy.text
            assert (await load.totals(SITE))["pageviews"]["total"] == pageviews(ledger.acknowledged())
        assert service.stop() == 0
        check_log(service)
    assert files_of(store) == before


async def status_of_an_event(load: Load) -> int:
    sent = await load.send(SITE, 1, "/zzz")
    assert sent is not None
    return sent.status


def files_of(store: Path) -> dict[str, bytes]:
    return {end: path.read_bytes() for end in ("", "-wal") if (path := Path(f"{store}{end}")).exists()}


@pytest.mark.parametrize("place", [0.0, 0.5], ids=["its header", "a page"])
async def test_a_damaged_log_is_told_and_left_alone(store: Path, place: float) -> None:
    """After `kill -9`, what was acknowledged is in the log: where it can't be read there, nothing starts."""
    ledger = await served(store, kill=True)
    log = Path(f"{store}-wal")
    overwrite(log, int(log.stat().st_size * place) + 20)
    before = files_of(store)
    others = (("site", "list"), ("check",), ("backup", f"{store}.copy")) if place else ()
    for arguments in (*others, SERVE, SERVE):
        said = refusal(store, *arguments)
        assert said.startswith(f"statsvc: {log}, which holds what was counted last, is damaged: of ")
        assert "restore a backup to this path; or remove only the -shm to go on without" in said
        assert files_of(store) == before
    Path(f"{store}-shm").unlink()
    with Service(store) as service:
        assert Books.read(store).disagreements() == []
        assert Books.read(store).pageviews < pageviews(ledger.acknowledged())
        assert service.stop() == 0


async def test_a_lost_log_is_told(store: Path) -> None:
    """A log that was removed after a crash took acknowledged events with it."""
    await served(store, kill=True)
    Path(f"{store}-wal").unlink()
    assert "is damaged: of " in refusal(store, *SERVE)


async def test_a_torn_end_of_the_log_is_no_damage(store: Path) -> None:
    """What a crash left unfinished was told to nobody: it is cut off, and all else is there."""
    ledger = await served(store, kill=True)
    log = Path(f"{store}-wal")
    log.write_bytes(log.read_bytes() + random.Random(1).randbytes(5000))
    check_nothing_lost(store, ledger)


@pytest.mark.parametrize("offset", [20, 5000])
async def test_a_damaged_index_of_the_log_is_made_anew(store: Path, offset: int) -> None:
    """The -shm holds nothing that isn't elsewhere."""
    ledger = await served(store, kill=True, enough=50)
    overwrite(Path(f"{store}-shm"), offset, 4)
    check_nothing_lost(store, ledger)


def check_nothing_lost(store: Path, ledger: Ledger) -> None:
    with Service(store) as service:
        books = Books.read(store)
        assert pageviews(ledger.acknowledged()) <= books.pageviews <= pageviews(ledger.sent)
        assert books.disagreements() == []
        assert service.stop() == 0


async def test_damaged_pages_never_end_in_a_traceback(store: Path) -> None:
    """Some pages damaged, one after the other: refused at the start, or 503 later, or met by nobody."""
    await _damage_pages(store, every=31)


@pytest.mark.torture
async def test_no_damaged_page_ends_in_a_traceback(store: Path) -> None:
    """Each page damaged at its head, in its middle and at its end, one after the other."""
    await _damage_pages(store, every=1)


async def _damage_pages(store: Path, every: int) -> None:
    await served(store, kill=False)
    sound = store.read_bytes()
    page_bytes, chance = 4096, random.Random(1)
    places = [page + place for page in range(0, len(sound), page_bytes) for place in (0, 2000, 4000)]
    refused = met = unmet = 0
    ledger = Ledger()
    for offset in places[::every]:
        store.write_bytes(sound)
        overwrite(store, offset, 60)
        before = files_of(store)
        try:
            service = Service(store)
        except AssertionError as exc:
            said = str(exc)
            assert "Traceback" not in said, offset
            if f"statsvc: {store} is not a sound statsvc database (" in said:
                assert files_of(store)[""] == before[""]  # its log may hold that a commit was tried
            else:
                assert "kept in the store can't be read" in said, said
            refused += 1
        else:
            with service:
                async with loading(service.public, ledger) as load:
                    began = len(ledger.sent)
                    await load.run([SITE], PEOPLE, chance, enough=began + 60)
                    sent = ledger.sent[began:]
                    assert {event.status for event in sent} <= {202, 503}
                    failed = any(event.outcome is Outcome.REFUSED for event in sent)
                    assert (answer(service.operations, "/-/healthy").status == 503) == failed, offset
                met, unmet = met + failed, unmet + (not failed)
                assert service.stop() == 0
                check_log(service)
        for path in store.parent.glob("stats.db-*"):
            path.unlink()
    figures(
        "damaged pages",
        rounds=len(places[::every]),
        refused_at_start=refused,
        told_later=met,
        met_by_nobody=unmet,
    )
