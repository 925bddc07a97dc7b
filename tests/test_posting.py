"""The way from the journal of commits to the tables, on a real file."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from statsvc.errors import StoreError
from statsvc.model import DayCounts, PageTotals, Peak
from statsvc.stores.batch_json import as_json, of_json
from statsvc.stores.sqlite import Database, SqliteStore
from statsvc.stores.sqlite.backup import back_up
from statsvc.stores.sqlite.database import schema_steps
from statsvc.tally import Tally
from tests.facts import NOON_MS, history_of
from tests.test_stores import TODAY, a_tally, batch

TABLES = ("hours", "days", "totals", "pages", "page_days", "names", "peaks", "newcomers", "receipts")


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Of the tables that are posted to, without the places of the journal."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as file:
        tables = {name: file.execute(f"SELECT * FROM {name}").fetchall() for name in TABLES}
    tables["newcomers"] = [(*key, visitors) for *key, _, visitors in tables["newcomers"]]
    return tables


async def commit_some(store: SqliteStore) -> None:
    for number, visits in enumerate((3, 1, 4)):
        await store.commit(batch(number, a_tally(visits, visitors=(number,)), receipts=(number,)))


async def test_batches_are_posted_together(store, database: Database):
    """Each row once for all of them; and nothing twice, when it is posted again."""
    await commit_some(store)
    assert rows(database.path) == {name: [] for name in TABLES}
    assert await store.visitors(1, TODAY, False) == [0, 1, 2]  # which can't be read before
    tables = rows(database.path)
    assert tables["hours"] == [(1, NOON_MS // 1000, 0, 8, 6, 9)]
    assert tables["totals"] == [(1, 0, 8, 6)]
    assert tables["page_days"] == [(1, TODAY, "/a", 8, 6)]
    assert tables["peaks"] == [(1, TODAY, 4, NOON_MS)]
    assert len(tables["newcomers"]) == len(tables["receipts"]) == 1
    assert await store.receipts() == [0, 1, 2]
    assert rows(database.path) == tables


async def test_a_day_of_which_nothing_waits_is_read_without_a_posting(store, database: Database):
    """As the first event of each site does, of a thousand that all wake up after midnight."""
    await commit_some(store)
    for site, day in ((1, "2026-11-24"), (2, TODAY)):
        assert await store.visitors(site, day, False) == []
        assert await store.paths(site, day) == await store.names(site, day) == set()
    assert rows(database.path) == {name: [] for name in TABLES}


async def test_a_day_of_which_something_waits_is_posted_before_it_is_read(store):
    """Whether bots or people were counted on it."""
    await store.commit(batch(1, Tally(days={(1, TODAY, True): [1, 2, 1]}, names={(1, TODAY, True, "a"): 2})))
    assert await store.names(1, TODAY) == {"a"}
    await store.commit(batch(2, a_tally()))
    assert await store.paths(1, TODAY) == {"/a"}


async def test_what_is_in_the_journal_alone_is_in_every_answer(store, database: Database):
    """Totals, days, peaks and pages are read from the tables and the journal as one."""
    await commit_some(store)
    await store.visitors(1, TODAY, False)
    await store.commit(batch(7, a_tally(9, visitors=(7,))))
    await store.commit(batch(8, a_tally(1, day="2026-11-24", visitors=(8,))))
    posted = rows(database.path)["totals"]
    history = await history_of(store, 1, TODAY, TODAY)
    assert history.total == PageTotals(18, 10)
    assert history.days == {TODAY: DayCounts(17, 8, 4), "2026-11-24": DayCounts(1, 2, 1)}
    assert history.peak == history.peak_today == Peak(9, NOON_MS)
    assert await store.pages([(1, "/a"), (1, "/b"), (1, "/a")]) == {(1, "/a"): PageTotals(18, 10)}
    assert rows(database.path)["totals"] == posted == [(1, 0, 8, 6)]


async def test_the_journal_of_a_process_that_was_killed_is_posted(store, database: Database, tmp_path: Path):
    """By the next one, which knows nothing of it but the file."""
    await commit_some(store)
    other = await Database.open(database.path, serving=False)
    try:
        after = SqliteStore(other)
        assert (await history_of(after, 1, TODAY, TODAY)).total == PageTotals(8, 6)
        await after.commit(batch(9, a_tally()))
        assert (await history_of(after, 1, TODAY, TODAY)).total == PageTotals(9, 8)
    finally:
        await other.close()
    assert rows(database.path)["totals"] == [(1, 0, 9, 8)]
    with pytest.raises(StoreError, match="something else was posted meanwhile"):
        await store.receipts()  # two on one file: the second is told, and reads the file again
    assert (await history_of(store, 1, TODAY, TODAY)).total == PageTotals(9, 8)


async def test_a_place_that_another_process_took_is_not_overwritten(store, database: Database):
    """None should commit to a file that is served; where one does, both batches are counted."""
    await commit_some(store)
    other = await Database.open(database.path, serving=False)
    try:
        await SqliteStore(other).commit(batch(7, a_tally(5, visitors=(7,))))
    finally:
        await other.close()
    with pytest.raises(StoreError, match=r"batches\.place"):
        await store.commit(batch(8, a_tally(9, visitors=(8,))))
    await store.commit(batch(8, a_tally(9, visitors=(8,))))
    assert await store.visitors(1, TODAY, False) == [0, 1, 2, 7, 8]
    assert rows(database.path)["totals"] == [(1, 0, 22, 10)]


async def test_closing_posts(tmp_path: Path):
    """A file that was closed has all in its tables."""
    path = tmp_path / "stats.db"
    database = await Database.open(path, serving=False)
    await commit_some(SqliteStore(database))
    await database.close()
    assert rows(path)["totals"] == [(1, 0, 8, 6)]


async def test_the_registry_and_a_backup_know_the_journal(
    store, registry, database: Database, tmp_path: Path
):
    """Also where nobody has posted it, as after a crash; the copy holds no visitor and no receipt."""
    await commit_some(store)
    assert (await registry.totals(1))[False] == PageTotals(8, 6)
    back_up(database.path, tmp_path / "copy.db", lambda *_: None)
    copy = rows(tmp_path / "copy.db")
    assert copy["totals"] == [(1, 0, 8, 6)]
    assert copy["newcomers"] == copy["receipts"] == []
    await store.visitors(1, TODAY, False)
    assert copy | {"newcomers": [], "receipts": []} == rows(database.path) | {"newcomers": [], "receipts": []}


def older_file(path: Path, steps: int) -> sqlite3.Connection:
    """A new file, as a program with so many steps of the schema made it."""
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("PRAGMA application_id = 1937006964")
    file.execute("CREATE TABLE schema_steps (step INTEGER PRIMARY KEY, name TEXT, done_at TEXT) STRICT")
    for step, name, statements in list(schema_steps())[:steps]:
        for statement in statements:
            file.execute(statement)
        file.execute("INSERT INTO schema_steps VALUES (?, ?, '')", (step, name))
    return file


async def test_batches_of_an_older_schema_are_not_posted_again(tmp_path: Path):
    """They were added to the tables when they were committed; their open visits are known as before."""
    path = tmp_path / "stats.db"
    with closing(older_file(path, 4)) as file:
        for number in (1, 2):
            file.execute(
                "INSERT INTO commits (id, at_ms, open_visits, tally) VALUES (?, ?, ?, ?)",
                (number, NOON_MS, b"visits", as_json(batch(number, a_tally(), receipts=(number,)))),
            )
    before = rows(path)
    database = await Database.open(path, serving=True)
    store = SqliteStore(database)
    assert await store.open_visits() == [b"visits", b"visits"]
    assert await store.receipts() == [1, 2]
    assert rows(path) == before
    await store.commit(batch(3, a_tally(), open_visits=b"more", receipts=(3,)))
    assert (await history_of(store, 1, TODAY, TODAY)).total == PageTotals(3, 6)
    await database.close()
    assert rows(path)["totals"] == [(1, 0, 3, 6)]


async def test_the_journal_of_an_older_program_is_posted(tmp_path: Path):
    """One that kept a journal, and posted what was in it otherwise."""
    path = tmp_path / "stats.db"
    with closing(older_file(path, 5)) as file:
        for number in (1, 2):
            of = batch(number, a_tally(visitors=(number,)), receipts=(number,))
            file.execute(
                "INSERT INTO batches (id, at_ms, open_visits, tally) VALUES (?, ?, ?, ?)",
                (of.id, of.at_ms, of.open_visits, as_json(of)),
            )
    database = await Database.open(path, serving=True)
    store = SqliteStore(database)
    assert await store.visitors(1, TODAY, False) == await store.receipts() == [1, 2]
    await database.close()
    assert rows(path)["totals"] == [(1, 0, 2, 4)]


def test_what_is_written_is_read():
    """A tally as the journal keeps it is the tally."""
    tally, receipts = of_json(as_json(batch(1, a_tally(), receipts=(1, 2))))
    assert msgspec.structs.asdict(tally) == msgspec.structs.asdict(a_tally())
    assert receipts == [1, 2]
