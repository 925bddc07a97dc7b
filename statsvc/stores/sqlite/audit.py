"""Whether the file is sound and its numbers agree: what is counted in several tables is added up again.

All of it is read in one transaction, so in one state, beside a running service or not.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from statsvc.stores.agreements import Difference, agreements, difference
from statsvc.stores.sqlite.database import schema_steps
from statsvc.stores.sqlite.snapshot import snapshot

INSTRUCTIONS = 500_000
"""Of SQLite's machine, between two looks at the progress; a few milliseconds."""
AGREEMENTS = agreements("json_array_length(visitors)")


def audit(store: Path, progress: Callable[[str, float], None]) -> Iterator[Difference]:
    """Everything that is not as it must be. `progress` is told what is looked at, and how much of all was.

    Raises StoreError where the file can't be read at all.
    """
    steps = len(AGREEMENTS) + 2
    with snapshot(store) as connection:
        done = 0

        def look(what: str) -> None:
            connection.set_progress_handler(lambda: progress(what, done / steps), INSTRUCTIONS)

        look("the file")
        for (said,) in connection.execute("PRAGMA integrity_check"):
            if said != "ok":
                yield Difference("the file's integrity", "ok", said)
        done += 1
        look("the schema")
        differences = list(_schema(connection))
        yield from differences
        if differences:
            return  # the queries below are of this program's schema
        domains = dict(connection.execute("SELECT id, domain FROM sites"))
        for agreement in AGREEMENTS:
            done += 1
            look(agreement.what)
            for row in connection.execute(agreement.sql):
                yield difference(agreement, row, domains)


def _schema(connection: sqlite3.Connection) -> Iterator[Difference]:
    steps = list(schema_steps())
    ((done,),) = connection.execute("SELECT coalesce(max(step), 0) FROM schema_steps")
    if done != len(steps):
        yield Difference("the schema", f"step {len(steps)}, as of this statsvc", f"step {done}")
        return
    with closing(sqlite3.connect(":memory:")) as wanted:
        for _, _, statements in steps:
            for statement in statements:
                wanted.execute(statement)
        expected, found = _objects(wanted), _objects(connection)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            there = "missing" if name not in found else "another definition"
            yield Difference(
                f"the schema's {name}",
                "nothing of that name" if name not in expected else "its definition in this statsvc",
                there,
            )


def _objects(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(
        connection.execute(
            "SELECT name, sql FROM sqlite_schema"
            " WHERE sql IS NOT NULL AND name NOT GLOB 'sqlite_*' AND name <> 'schema_steps'"
        )
    )
