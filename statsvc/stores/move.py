"""A file of SQLite moved into PostgreSQL: all of it, also open visits, secrets and what was undone.

A pass makes the copy equal to the file as it is at one moment. What is equal already is not copied again:
each table is looked at in groups, such as a site's day, whose figures are added up on both sides. So a pass
that was killed is begun again, one beside the running service does most of the work, and the last, with the
service stopped, little.

A group in which something was counted adds up to more. Only where pages became one the sums stay: then there
are fewer pages, or one of them begins with another letter.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from sqlite3 import Connection
from typing import Any, NamedTuple

import asyncpg
import orjson

from statsvc.errors import StoreError, StoreInUse
from statsvc.stores.postgres.database import SCHEMA, PostgresDatabase
from statsvc.stores.sqlite import Database, SqliteStore
from statsvc.stores.sqlite.database import schema_steps
from statsvc.stores.sqlite.snapshot import snapshot

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('statsvc move', 0))"
STEP_ROWS = 20_000
"""Rows that are copied in one transaction, or a group's, if it has more."""
Row = Sequence[Any]
Figures = dict[Row, tuple[int, ...]]
Progress = Callable[[str, float], None]


class Moved(NamedTuple):
    finished: bool
    """Whether nodes may count there now; else the file is still served."""
    copied: int
    """Rows of this pass."""
    rows: int
    """Rows of the store."""


class Table(NamedTuple):
    name: str
    columns: str
    groups: tuple[tuple[str, str], ...]
    """What makes a group: expressions, and their types in PostgreSQL."""
    figures: str
    """What is added up in a group, as each engine writes it: see _SQLITE and _POSTGRES."""
    copied: Callable[[Iterable[Row]], Iterable[Row]] = lambda rows: rows
    """A group's rows as PostgreSQL has them."""

    def sums(self, of_engine: dict[str, str]) -> str:
        groups = ", ".join(expression for expression, _ in self.groups)
        figures = ", ".join(f"sum({figure})" for figure in self.figures.format(**of_engine).split(", "))
        return f"SELECT count(*), {figures}, {groups} FROM {self.name} GROUP BY {groups}"


def _of_site(*more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("site", "bigint"), *more)


def _named(rows: Iterable[Row]) -> Iterable[Row]:
    """Older programs let a zero into a name, which no text of PostgreSQL can have."""
    events: dict[Row, int] = {}
    for *key, name, number in rows:
        named = (*key, name.replace("\0", "\N{REPLACEMENT CHARACTER}"))
        events[named] = events.get(named, 0) + number
    return [(*key, number) for key, number in events.items()]


def _last_is_array(rows: Iterable[Row]) -> Iterable[Row]:
    return [(*row[:-1], orjson.loads(row[-1])) for row in rows]


def _of_no_node(rows: Iterable[Row]) -> Iterable[Row]:
    return [(*row, 0, []) for row in rows]


_SQLITE = {"code": "unicode", "size": "json_array_length"}
_POSTGRES = {"code": "ascii", "size": "cardinality"}
_DAY = ("day", "text")
_PLACES = (("place / 500", "bigint"),)
_PAGES = "visits, pageviews, {code}(path), length(path)"
TABLES = (
    Table("totals", "site, bot, visits, pageviews", _of_site(), "visits, pageviews"),
    Table("days", "site, day, bot, visits, pageviews, visitors", _of_site(), "visits, pageviews, visitors"),
    Table(
        "hours",
        "site, hour, bot, visits, pageviews, events",
        _of_site(("hour / 2592000", "bigint")),
        "visits, pageviews, events",
    ),
    Table("pages", "site, path, visits, pageviews", _of_site(), _PAGES),
    Table("page_days", "site, day, path, visits, pageviews", _of_site(_DAY), _PAGES),
    Table("names", "site, day, bot, name, events", _of_site(_DAY), "events", _named),
    Table("peaks", "site, day, visitors, at_ms", _of_site(), "visitors, at_ms"),
    Table("let_go", "what, days_before", (("what", "text"), ("days_before", "text")), "1"),
    Table("secrets", "site, day, secret", _of_site(_DAY), "length(secret)"),
    Table(
        "newcomers",
        "site, day, bot, batch, visitors",
        _of_site(_DAY, ("bot", "smallint")),
        "{size}(visitors)",
        _last_is_array,
    ),
    Table(
        "batches",
        "place, id, at_ms, open_visits",
        _PLACES,
        "at_ms, length(open_visits), id % 1000003",
        _of_no_node,
    ),
    Table("receipts", "place, at_ms, ids", _PLACES, "at_ms, {size}(ids)", _last_is_array),
)
_ADDED = {"batches": ", node, sites"}
"""Columns that SQLite has not."""
_REGISTRY = {
    "sites": "id, domain, time_zone, aliases, window_seconds, visit_gap_seconds, repeat_seconds, public,"
    " added_at_ms, removed_at_ms",
    "baselines": "id, site, visits, pageviews, reason, made_at_ms, undone_at_ms, undone_reason",
    "tokens": "id, site, scope, digest, note, made_at_ms, revoked_at_ms",
}
_NUMBERED = (
    ("sites", "id"),
    ("baselines", "id"),
    ("tokens", "id"),
    ("batches", "place"),
    ("receipts", "place"),
)


async def move(source: Path, to: str, progress: Progress) -> Moved:
    """One pass, from a file by its resolved path. One while it is not being served is the last.

    Raises StoreError where the copy can't be made, or isn't equal to the file after all.
    """
    database = await PostgresDatabase.open(to, moving=True)
    try:
        async with _unless_served(source) as unserved, database.connection() as target:
            if not await target.fetchval(_LOCK):
                raise StoreError(f"{database.where}: another `statsvc migrate-store` is at work there")
            try:
                with snapshot(source) as file:
                    _require_schema(file, source)
                    async with target.transaction():
                        await _claim(target, database.where, str(source))
                    return await _Pass(file, target, progress).run(finish=unserved)
            finally:
                await target.execute("SELECT pg_advisory_unlock_all()")
    finally:
        await database.close()


@asynccontextmanager
async def _unless_served(source: Path) -> AsyncIterator[bool]:
    """Whether nobody serves the file; then nobody can while this lasts."""
    async with AsyncExitStack() as stack:
        try:
            file = await Database.open(source, serving=True, create=False)
        except StoreInUse:
            yield False
            return
        stack.push_async_callback(file.close)
        # As a service does when it starts: what a crash left to be done is done.
        await SqliteStore(file).receipts()
        yield True


def _require_schema(file: Connection, source: Path) -> None:
    ((done,),) = file.execute("SELECT coalesce(max(step), 0) FROM schema_steps")
    if done != len(list(schema_steps())):
        raise StoreError(
            f"{source} has the schema of another statsvc: start the service on it with this one first"
        )


async def _claim(target: asyncpg.Connection, where: str, source: str) -> None:
    """See that the target is empty, or a copy of this file that was begun."""
    await target.execute("LOCK TABLE moves")
    move = await target.fetchrow("SELECT source, finished FROM moves")
    if move is None:
        if await target.fetchval("SELECT EXISTS (SELECT FROM sites) OR EXISTS (SELECT FROM batches)"):
            raise StoreError(f"{where} has a store with sites already; a store is moved to an empty one")
        await target.execute("INSERT INTO moves VALUES ($1, false)", source)
    elif move["source"] != source:
        raise StoreError(f"{where}: {move['source']} is being moved there, not {source}")
    elif move["finished"]:
        raise StoreError(
            f"{where}: {source} has been moved there, and what nodes counted since would be undone"
        )


class _Pass:
    def __init__(self, file: Connection, target: asyncpg.Connection, progress: Progress) -> None:
        self._file = file
        self._target = target
        self._progress = progress

    async def run(self, *, finish: bool) -> Moved:
        async with self._target.transaction():
            await self._copy_registry()
        sums = {table: self._sums(table, len(TABLES), number) for number, table in enumerate(TABLES)}
        different = [
            (table, group)
            for table in TABLES
            for group in _different(sums[table], await self._sums_there(table))
        ]
        rows = sum(sums[table][group][0] for table, group in different if group in sums[table])
        copied = 0
        for table, groups in _steps(different, sums):
            self._progress(f"copying {table.name}", copied / max(rows, 1))
            copied += await self._copy(table, groups)
        self._progress("adding up", 1.0)
        for table in dict.fromkeys(table for table, _ in different):
            for group in _different(sums[table], await self._sums_there(table)):
                raise StoreError(f"the copy's {table.name} of {', '.join(map(str, group))} is not the file's")
        async with self._target.transaction():
            for name, number in _NUMBERED:
                await self._target.execute(
                    f"SELECT setval(pg_get_serial_sequence('{SCHEMA}.{name}', '{number}'),"
                    f" (SELECT coalesce(max({number}), 0) + 1 FROM {name}), false)"
                )
            if finish:
                await self._target.execute("UPDATE moves SET finished = true")
        return Moved(
            finish, copied, sum(figures[0] for of_table in sums.values() for figures in of_table.values())
        )

    async def _copy_registry(self) -> None:
        """Little enough to be copied whole each time."""
        for name in ("tokens", "baselines"):
            await self._target.execute(f"DELETE FROM {name}")
        for name, columns in _REGISTRY.items():
            names = columns.split(", ")
            given = ", ".join(f"${number}" for number in range(1, len(names) + 1))
            new = ", ".join(f"excluded.{column}" for column in names)
            rows = [list(row) for row in self._file.execute(f"SELECT {columns} FROM {name}")]
            for row in rows:
                if name == "sites":
                    row[names.index("public")] = bool(row[names.index("public")])
            await self._target.executemany(
                f"INSERT INTO {name} ({columns}) VALUES ({given})"
                f" ON CONFLICT (id) DO UPDATE SET ({columns}) = ROW ({new})",
                rows,
            )

    def _sums(self, table: Table, tables: int, number: int) -> Figures:
        self._progress(f"adding up {table.name}", number / tables)
        return _figures(table, self._file.execute(table.sums(_SQLITE)))

    async def _sums_there(self, table: Table) -> Figures:
        return _figures(table, await self._target.fetch(table.sums(_POSTGRES), timeout=None))

    async def _copy(self, table: Table, groups: Sequence[Row]) -> int:
        """Make groups as the file has them; how many rows they have there."""
        names = [f"g{number}" for number in range(len(table.groups))]
        lists = ", ".join(f"${number}::{kind}[]" for number, (_, kind) in enumerate(table.groups, start=1))
        expressions = [expression for expression, _ in table.groups]
        same = " AND ".join(f"{one} = {name}" for one, name in zip(expressions, names, strict=True))
        wanted = " AND ".join(f"{expression} = ?" for expression in expressions)
        rows: list[Row] = []
        for group in groups:
            found = self._file.execute(f"SELECT {table.columns} FROM {table.name} WHERE {wanted}", group)
            rows += table.copied(found.fetchall())
        async with self._target.transaction():
            await self._target.execute(
                f"DELETE FROM {table.name} USING unnest({lists}) AS old ({', '.join(names)}) WHERE {same}",
                *map(list, zip(*groups, strict=True)),
                timeout=None,
            )
            await self._target.copy_records_to_table(
                table.name,
                schema_name=SCHEMA,
                columns=(table.columns + _ADDED.get(table.name, "")).split(", "),
                records=rows,
                timeout=None,
            )
        return len(rows)


def _figures(table: Table, rows: Iterable[Row]) -> Figures:
    """By group: the number of rows, and what they add up to."""
    parts = len(table.groups)
    return {tuple(row[-parts:]): tuple(int(figure) for figure in row[:-parts]) for row in rows}


def _different(here: Figures, there: Figures) -> list[Row]:
    return [group for group in {**here, **there} if here.get(group) != there.get(group)]


def _steps(
    different: Sequence[tuple[Table, Row]], sums: dict[Table, Figures]
) -> Iterator[tuple[Table, list[Row]]]:
    """Groups of one table that together have as many rows as a step has."""
    groups: list[Row] = []
    rows = 0
    for number, (table, group) in enumerate(different):
        groups.append(group)
        rows += sums[table].get(group, (0,))[0]
        last = number + 1 == len(different) or different[number + 1][0] is not table
        if rows >= STEP_ROWS or last:
            yield table, groups
            groups, rows = [], 0
