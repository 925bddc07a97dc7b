"""A copy of the file, made beside a running service.

Not SQLite's backup API: that copies pages, and with them the secrets, visitors' ids and open visits that
are to be destroyed within two days, and what is left of destroyed ones in free pages. A copy of them
that nobody destroys would link ids for ever. So rows are copied, and theirs are never read.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from statsvc.errors import StoreDamaged, StoreError
from statsvc.stores.sqlite.database import APPLICATION_ID
from statsvc.stores.sqlite.snapshot import snapshot
from statsvc.stores.sqlite.told import told

LEFT_OUT = frozenset({"secrets", "newcomers", "batches", "receipts"})
"""Tables that are empty in a copy."""
STEP_ROWS = 20_000
"""Rows copied, and made durable, at a time: smaller steps, and the service waits for the disk more often."""
REST = 1.0
"""How long a pause follows a step, in times of it: the disk and a core are the service's meanwhile."""


class Copy(NamedTuple):
    rows: int
    size_bytes: int


def back_up(store: Path, to: Path, progress: Callable[[str, float], None]) -> Copy:
    """Copy the store to the new file `to`, which appears when it is whole, verified and durable.

    `progress` is told what is being done, and how much of the rows is copied, from 0 to 1. Raises
    StoreError where there is no whole copy; then there is nothing at `to`.
    """
    with told(to):
        _refuse_existing(to)
        if not to.parent.is_dir():
            raise StoreError(f"there is no folder {to.parent} to put {to.name} into")
    with snapshot(store) as source, _partial(to.with_name(to.name + ".part")) as part:
        tables = {
            name: source.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for name in _tables(source)
            if name not in LEFT_OUT
        }
        with closing(sqlite3.connect(part, isolation_level=None)) as copy:
            with told(part):
                _make_schema(copy, _schema(source))
            _copy_rows(source, copy, tables, part, progress)
            progress("verifying", 1.0)
            with told(part):
                _verify_rows(copy, tables)
                _post(source, copy)
                _verify_file(copy)
        with told(to):
            _make_durable(part)
            _refuse_existing(to)
            part.rename(to)
            _make_durable(to.parent)
    return Copy(sum(tables.values()), to.stat().st_size)


def _refuse_existing(to: Path) -> None:
    if to.exists():
        raise StoreError(f"{to} is there already; a backup overwrites nothing")


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A file of our own, removed where the work on it fails. One left by a crash is begun anew."""
    with told(path.with_suffix("")):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{path} is being written by another backup") from None
        file.truncate()
        try:
            yield path
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _tables(source: sqlite3.Connection) -> list[str]:
    rows = source.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'")
    return [name for (name,) in rows]


def _schema(source: sqlite3.Connection) -> list[str]:
    """Whatever schema it has: a copy made by a newer or older program is none the worse."""
    rows = source.execute(
        "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' ORDER BY rowid"
    )
    return [sql for (sql,) in rows]


def _make_schema(copy: sqlite3.Connection, schema: list[str]) -> None:
    copy.execute("PRAGMA journal_mode = OFF")  # a copy that was broken off is thrown away
    copy.execute("PRAGMA synchronous = FULL")
    copy.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for sql in schema:
        copy.execute(sql)


def _copy_rows(
    source: sqlite3.Connection,
    copy: sqlite3.Connection,
    tables: dict[str, int],
    part: Path,
    progress: Callable[[str, float], None],
) -> None:
    in_all, done = sum(tables.values()) or 1, 0
    for name in tables:
        cursor = source.execute(f'SELECT * FROM "{name}"')
        places = ", ".join("?" for _ in cursor.description)
        began = time.monotonic()
        while rows := cursor.fetchmany(STEP_ROWS):
            with told(part):
                copy.execute("BEGIN")
                copy.executemany(f'INSERT INTO "{name}" VALUES ({places})', rows)
                copy.execute("COMMIT")
            done += len(rows)
            progress("copying", done / in_all)
            time.sleep((time.monotonic() - began) * REST)
            began = time.monotonic()


def _verify_rows(copy: sqlite3.Connection, tables: dict[str, int]) -> None:
    for name, rows in tables.items():
        ((there,),) = copy.execute(f'SELECT count(*) FROM "{name}"')
        if there != rows:
            raise StoreDamaged(
                f"the copy is not whole, and was removed: {name} has {there:,} rows of {rows:,}"
            )


def _post(source: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    """What the source has in its journal alone, without visitors: the copy has no journal."""
    if not copy.execute("SELECT * FROM sqlite_schema WHERE name = 'postings'").fetchall():
        return  # an older schema
    journal = source.execute(
        "SELECT place, at_ms, json_remove(tally, '$.newcomers', '$.receipts'), since FROM postings"
    )
    copy.executemany("INSERT INTO postings VALUES (?, ?, ?, ?)", journal)


def _verify_file(copy: sqlite3.Connection) -> None:
    if (said := copy.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        raise StoreDamaged(f"the copy is not sound, and was removed: {said}")


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
