"""The SQLite file: opened, locked for one server, and brought to this program's schema."""

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from shutil import disk_usage
from typing import IO, Any, Self

import aiosqlite

from statsvc.errors import SchemaTooNew, StoreDamaged, StoreError, StoreInUse
from statsvc.ports import Space

Row = Sequence[Any]

BUSY_TIMEOUT_SECONDS = 2.0
"""How long a statement waits for another process, such as `statsvc site`, to finish its own."""
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
APPLICATION_ID = int.from_bytes(b"stat", "big")
"""Marks the file as ours: https://www.sqlite.org/pragma.html#pragma_application_id."""


class Database:
    """One connection that writes and one that reads, each with its own thread.

    WAL with `synchronous=FULL`: a statement that has returned has been fsynced.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()  # however a file is named, it is one file, with one lock
        self._writing = asyncio.Lock()
        self._lock_file: IO[bytes] | None = None
        self._opened = (0, 0)
        self._writer: aiosqlite.Connection
        self._reader: aiosqlite.Connection

    @classmethod
    async def open(cls, path: Path, *, serving: bool, create: bool = True) -> Self:
        """Open the file, or, where there is none, make it if `create`.

        `serving` claims it: of two servers on one file the second is refused.

        Raises StoreError with a sentence that names the file.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = ".".join(map(str, OLDEST_SQLITE))
            raise StoreError(f"SQLite {wanted} or newer is needed, this Python has {sqlite3.sqlite_version}")
        database = cls(path)
        async with AsyncExitStack() as on_failure:
            with told(path):
                database._find_file(create=create)
                if serving:
                    database._claim()
                    on_failure.callback(database._release)
                database._writer = await _connect(database.path)
                on_failure.push_async_callback(database._writer.close)
                await database._prepare()
                database._reader = await _connect(database.path)
                on_failure.push_async_callback(database._reader.close)
                if serving:
                    # Opening doesn't show that a file is read-only, nor that a disk is full.
                    await database.probe()
            on_failure.pop_all()
        return database

    async def close(self) -> None:
        await self._reader.close()
        await self._writer.close()
        self._release()

    def space(self) -> Space:
        log = self.path.with_name(self.path.name + "-wal")
        return Space(
            data_bytes=self.path.stat().st_size,
            log_bytes=log.stat().st_size if log.exists() else 0,
            free_bytes=disk_usage(self.path.parent).free,
        )

    async def probe(self) -> None:
        """Commit something of no meaning. Raises StoreError where that can't be done, or would be lost."""
        await self.write("UPDATE probe SET probes = probes + 1")
        with told(self.path):
            there = self.path.exists() and _identity(self.path)
        if there != self._opened:
            raise StoreError(
                f"{self.path} has been moved or removed while it was served: what is counted now is lost"
                " at the next start; stop the service and put the file back"
            )

    def _find_file(self, *, create: bool) -> None:
        """Refuse, before anything is written, what is no place for a store."""
        if not create and not self.path.exists():
            raise StoreError(
                f"there is no store at {self.path}; `statsvc serve` or `statsvc site add` makes one"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.is_file():
            raise StoreError(f"{self.path} is not a file")
        if self.path.exists() and self.path.stat().st_nlink > 1:
            raise StoreError(
                f"{self.path} has {self.path.stat().st_nlink} names (hard links); two servers could then"
                " write to it: keep one name"
            )
        if self._lock_path.exists() and self.path.exists() and self.path.stat().st_size == 0:
            raise StoreDamaged(
                f"{self.path} is empty, though it has been served before. It was left as it is:"
                " restore a backup to this path, or remove it to begin anew."
            )

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows, as of the last commit."""
        with told(self.path):
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def write(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """One statement, durable when this returns; what it RETURNs."""
        async with self._writing:
            with told(self.path):
                return list(await self._writer.execute_fetchall(sql, parameters))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Several statements that become durable together, or not at all."""
        async with self._writing:
            with told(self.path):
                try:
                    await self._writer.execute_fetchall("BEGIN IMMEDIATE")
                    yield Transaction(self._writer)
                    await self._writer.execute_fetchall("COMMIT")
                except BaseException:
                    # Also when cancelled: the thread may be anywhere between BEGIN and COMMIT, and
                    # what is put behind them in its queue runs after them.
                    with suppress(sqlite3.Error):
                        await self._writer.execute_fetchall("ROLLBACK")
                    raise

    async def empty_log(self) -> bool:
        """Put what is in the write-ahead log into the file and leave the log without a byte, if nobody reads.

        Doesn't wait for readers: a backup may read for minutes, and commits would wait as well.
        """
        async with self._writing:
            with told(self.path):
                try:
                    await self._writer.execute_fetchall("PRAGMA busy_timeout = 0")
                    ((busy, _, _),) = await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
                finally:
                    await self._writer.execute_fetchall(
                        f"PRAGMA busy_timeout = {BUSY_TIMEOUT_SECONDS * 1000:.0f}"
                    )
        return not busy

    async def _prepare(self) -> None:
        ((application, objects),) = await self._writer.execute_fetchall(
            "SELECT * FROM pragma_application_id, (SELECT count(*) FROM sqlite_schema)"
        )
        if objects and application != APPLICATION_ID:
            raise StoreDamaged(
                f"{self.path} is a database of another program, not of statsvc. It was left as it is:"
                " choose another --store."
            )
        await self._writer.execute_fetchall("PRAGMA journal_mode = WAL")
        await self._writer.execute_fetchall("PRAGMA journal_size_limit = 67108864")
        self._opened = _identity(self.path)
        await self._migrate()

    async def _migrate(self) -> None:
        """Bring the schema to this program's, each step and its record in one transaction."""
        if await self._steps_done() == len(list(schema_steps())):
            return  # so that a command that only reads doesn't write
        async with self.transaction() as transaction:
            await transaction.run(f"PRAGMA application_id = {APPLICATION_ID}")
            await transaction.run(
                "CREATE TABLE IF NOT EXISTS schema_steps"
                " (step INTEGER PRIMARY KEY, name TEXT NOT NULL, done_at TEXT NOT NULL) STRICT"
            )
        steps = list(schema_steps())
        while True:
            async with self.transaction() as transaction:
                # Asked inside the transaction: two processes may open a new file at the same time.
                ((done,),) = await transaction.run("SELECT coalesce(max(step), 0) FROM schema_steps")
                if done > len(steps):
                    raise SchemaTooNew(
                        f"{self.path} has schema {done}, written by a newer statsvc; this one knows schemas"
                        f" up to {len(steps)}. Use the newer program, or restore a backup made before it."
                    )
                if done == len(steps):
                    return
                step, name, statements = steps[done]
                for statement in statements:
                    await transaction.run(statement)
                await transaction.run(
                    "INSERT INTO schema_steps VALUES (?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))",
                    (step, name),
                )

    async def _steps_done(self) -> int:
        ((begun,),) = await self._writer.execute_fetchall(
            "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_steps'"
        )
        if not begun:
            return 0
        ((done,),) = await self._writer.execute_fetchall("SELECT coalesce(max(step), 0) FROM schema_steps")
        return int(done)

    def _claim(self) -> None:
        self._lock_file = self._lock_path.open("ab")
        try:
            # Held by the kernel for this process: it can't outlive it, whatever ends it.
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreInUse(
                f"{self.path} is being served by another statsvc; stop it first, or choose another --store"
            ) from None

    def _release(self) -> None:
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


class Transaction:
    """What is run in it, is run in it."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def run(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        return list(await self._connection.execute_fetchall(sql, parameters))


def schema_steps() -> Iterable[tuple[int, str, list[str]]]:
    """(number, name, statements) of each migration, in order."""
    folder = files("statsvc.stores.sqlite") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for number, name in enumerate(names, start=1):
        yield number, name.removesuffix(".sql"), _statements((folder / name).read_text())


def _statements(script: str) -> list[str]:
    """A script's statements; SQLite itself says where one ends, also inside triggers."""
    statements, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(
        path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, cached_statements=64
    )
    try:
        await connection.execute_fetchall("PRAGMA synchronous = FULL")
        await connection.execute_fetchall("PRAGMA foreign_keys = ON")
    except BaseException:
        await connection.close()  # its thread would keep the process from ending
        raise
    return connection


class told:  # noqa: N801 - reads as a statement: with told(path): …
    """Turn SQLite's errors into ours, with the file's name and what can be done."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        match exc:
            case sqlite3.IntegrityError():
                return
            case sqlite3.DatabaseError() if exc.sqlite_errorcode in (
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_NOTADB,
            ):
                raise StoreDamaged(
                    f"{self._path} is not a sound statsvc database ({exc}). It was left as it is:"
                    " put it aside and restore a backup to this path."
                ) from exc
            case sqlite3.OperationalError() if exc.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise StoreError(
                    f"{self._path} was locked by another process for {BUSY_TIMEOUT_SECONDS:g} seconds"
                ) from exc
            case sqlite3.Error():
                raise StoreError(f"{self._path}: {exc}") from exc
            case OSError():
                raise StoreError(f"{self._path} can't be opened: {exc.strerror or exc}") from exc
