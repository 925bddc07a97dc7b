"""The SQLite file: opened, locked for one server, and brought to this program's schema."""

import asyncio
import fcntl
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from importlib.resources import files
from math import inf
from pathlib import Path
from shutil import disk_usage
from typing import IO, Any, NamedTuple, Self
from urllib.parse import quote

import aiosqlite

from statsvc.errors import SchemaTooNew, StoreDamaged, StoreError, StoreInUse
from statsvc.ports import Space
from statsvc.stores.sqlite.log_file import refuse_damaged_log
from statsvc.stores.sqlite.told import BUSY_TIMEOUT_SECONDS, result_code, told, unsound

Row = Sequence[Any]

CACHE_KIB = 32_000
"""Of pages, at most, for each connection: what is written for a thousand sites with a long history."""
LOOK_AGAIN_SECONDS = 5.0
"""How often a damaged file is looked at again, which reads all of it."""
MAKING_SECONDS = 1.0
"""How long another process' new file may be empty: until its maker's first commit."""
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
APPLICATION_ID = int.from_bytes(b"stat", "big")
"""Marks the file as ours: https://www.sqlite.org/pragma.html#pragma_application_id."""


class Kind(NamedTuple):
    """What a file is for."""

    application_id: int
    room: str
    """The package that has its schema, in `migrations`."""
    option: str
    """What names another file."""


STORE = Kind(APPLICATION_ID, "statsvc.stores.sqlite", "--store")


class Database:
    """One connection that writes and one that reads, each with its own thread.

    WAL with `synchronous=FULL`: a statement that has returned has been fsynced.

    A file that turns out to be damaged is left as it is. It is read where it can be, and every write, also
    the probe, raises StoreDamaged, until the whole file is found to be sound: perhaps a disk failed to read.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path = path.resolve()  # however a file is named, it is one file, with one lock
        self._kind = kind
        self._writing = asyncio.Lock()
        self._lock_file: IO[bytes] | None = None
        self._opened = (0, 0)
        self._damage = ""
        self._look_again_at = 0.0
        self.before_close: list[Callable[[], Awaitable[None]]] = []
        """What is done once more before the file is let go of."""
        self._writer: aiosqlite.Connection
        self._reader: aiosqlite.Connection

    @classmethod
    async def open(cls, path: Path, *, serving: bool, create: bool = True, kind: Kind = STORE) -> Self:
        """Open the file, or, where there is none, make it if `create`.

        `serving` claims it: of two servers on one file the second is refused.

        Raises StoreError with a sentence that names the file.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = ".".join(map(str, OLDEST_SQLITE))
            raise StoreError(f"SQLite {wanted} or newer is needed, this Python has {sqlite3.sqlite_version}")
        database = cls(path, kind)
        async with AsyncExitStack() as on_failure:
            with database._told():
                database._find_file(create=create)
                if serving:
                    database._claim()
                    on_failure.callback(database._release)
                refuse_damaged_log(database.path)
                # Where it can't be opened, aiosqlite's thread would speak to a loop that is gone.
                sqlite3.connect(database.path).close()
                database._writer = await _connect(database.path)
                on_failure.push_async_callback(database._close, database._writer)
                await database._prepare()
                database._reader = await _connect(database.path)
                on_failure.push_async_callback(database._close, database._reader)
                if serving:
                    # Opening doesn't show that a file is read-only, nor that a disk is full.
                    await database.probe()
            on_failure.pop_all()
        return database

    async def close(self) -> None:
        for work in self.before_close:
            await work()
        await self._close(self._reader)
        await self._close(self._writer)
        self._release()

    async def _close(self, connection: aiosqlite.Connection) -> None:
        """Where the last one closes, SQLite puts the log into the file: not into a damaged one.

        Another that only reads is in its way, and can't do it itself.
        """
        if not self._damage:
            await connection.close()
            return
        with closing(_connect_to_read(self.path)) as other:
            with suppress(sqlite3.Error):
                other.execute("SELECT count(*) FROM sqlite_schema")
            await connection.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """As `told`, and damage is remembered."""
        try:
            with told(self.path):
                yield
        except StoreDamaged as exc:
            self._damage = str(exc)
            if not isinstance(exc.__cause__, sqlite3.Error) or result_code(exc.__cause__) is None:
                self._look_again_at = inf  # SQLite finds nothing wrong with it
            raise

    @asynccontextmanager
    async def _writable(self) -> AsyncIterator[None]:
        """As `_told`, for what writes; one at a time."""
        async with self._writing:
            now = asyncio.get_running_loop().time()
            if self._damage and now >= self._look_again_at:
                self._look_again_at = now + LOOK_AGAIN_SECONDS
                if await asyncio.to_thread(_is_sound, self.path):
                    self._damage = ""
            if self._damage:
                raise StoreDamaged(self._damage)
            with self._told():
                yield

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
        end = time.monotonic() + MAKING_SECONDS
        while (empty := self.path.exists() and not self.path.stat().st_size) and time.monotonic() < end:
            time.sleep(0.02)
        if empty:
            raise StoreDamaged(
                f"{self.path} is empty: no store, or one that has lost everything. It was left as it is:"
                " restore a backup to this path, or remove it to begin anew."
            )

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    async def read(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """Rows, as of the last commit."""
        with self._told():
            return list(await self._reader.execute_fetchall(sql, parameters))

    async def read_all_written(self, sql: str) -> list[Row]:
        """As `read`, after everything that was begun to be written; also where nothing can be written."""
        with self._told():
            return list(await self._writer.execute_fetchall(sql))

    async def write(self, sql: str, parameters: Iterable[Any] = ()) -> list[Row]:
        """One statement, durable when this returns; what it RETURNs."""
        async with self._writable():
            return list(await self._writer.execute_fetchall(sql, parameters))

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """What is decoded inside was written by us: where it can't be, the file is damaged."""
        try:
            yield
        except ValueError as exc:
            self._damage, self._look_again_at = unsound(self.path, exc), inf
            raise StoreDamaged(self._damage) from exc

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Transaction"]:
        """Several statements that become durable together, or not at all."""
        async with self._writable():
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
        async with self._writable():
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
        if objects and application != self._kind.application_id:
            raise StoreDamaged(
                f"{self.path} is a database of another program, not of statsvc. It was left as it is:"
                f" choose another {self._kind.option}."
            )
        await self._writer.execute_fetchall("PRAGMA journal_mode = WAL")
        await self._writer.execute_fetchall("PRAGMA journal_size_limit = 67108864")
        self._opened = _identity(self.path)
        await self._migrate()

    async def _migrate(self) -> None:
        """Bring the schema to this program's, each step and its record in one transaction."""
        steps = list(schema_steps(self._kind))
        if await self._steps_done() == len(steps):
            return  # so that a command that only reads doesn't write
        async with self.transaction() as transaction:
            await transaction.run(f"PRAGMA application_id = {self._kind.application_id}")
            await transaction.run(
                "CREATE TABLE IF NOT EXISTS schema_steps"
                " (step INTEGER PRIMARY KEY, name TEXT NOT NULL, done_at TEXT NOT NULL) STRICT"
            )
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
                if done < 0:
                    raise StoreDamaged(unsound(self.path, f"it says it has schema {done}"))
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
            self._release()
            raise StoreInUse(
                f"{self.path} is being served by another statsvc; stop it first, or choose another"
                f" {self._kind.option}"
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


def schema_steps(kind: Kind = STORE) -> Iterable[tuple[int, str, list[str]]]:
    """(number, name, statements) of each migration, in order."""
    folder = files(kind.room) / "migrations"
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
        # Else what is moved from page to page, such as a secret, stays in the bytes it was moved from.
        await connection.execute_fetchall("PRAGMA secure_delete = FAST")
        await connection.execute_fetchall(f"PRAGMA cache_size = -{CACHE_KIB}")
    except BaseException:
        await connection.close()  # its thread would keep the process from ending
        raise
    return connection


def _connect_to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_SECONDS)


def _is_sound(path: Path) -> bool:
    try:
        with closing(_connect_to_read(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)])
    except sqlite3.Error:
        return False
