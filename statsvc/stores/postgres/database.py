"""The PostgreSQL database: its connections, and its schema brought to this program's."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import asyncpg

from statsvc.errors import SchemaTooNew, StoreError
from statsvc.ports import Space
from statsvc.stores.postgres.told import told

Row = Sequence[Any]

SCHEMA = "statsvc"
"""The schema that all is in, so that a database can be another program's, too."""
OLDEST_POSTGRESQL = 14
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
"""How long a statement may take. Longer ones say so themselves."""
MOST_CONNECTIONS = 8
SESSION = {
    "search_path": SCHEMA,
    "application_name": "statsvc",
    "jit": "off",  # it takes longer than any of these statements
}
_MIGRATING = "SELECT pg_advisory_xact_lock(hashtextextended('statsvc migrations', 0))"


class Step(NamedTuple):
    number: int
    name: str
    least_program: int
    """How many steps a program must know to be let in beside those who know this one."""
    script: str


class PostgresDatabase:
    """A few connections, opened when they are needed, and again when they were lost.

    A statement that has returned is as durable as the server makes commits; `synchronous_commit = off` is
    overruled. Where the URL names several servers, the one that can be written to is used.
    """

    def __init__(self, url: str) -> None:
        self.where = place_of(url)
        self._url = url
        self._pool: asyncpg.Pool

    @classmethod
    async def open(cls, url: str, *, create: bool = True, moving: bool = False) -> Self:
        """Connect, make the store's tables if there are none and `create`, and bring them to this program's
        schema. A newer one is used where its program says that it can be.

        Raises StoreError with a sentence that names the server and the database, never the password. One that
        another store is being moved to is for who does that, `moving`.
        """
        database = cls(url)
        await database.connect("read-write")
        try:
            await database._migrate(create=create)
            if not moving:
                await database._refuse_unfinished_move()
        except BaseException:
            await database.close()
            raise
        return database

    async def connect(self, target: str) -> None:
        """Make ready to connect, to a server of the URL's that is `target` unless the URL says which."""
        with told(self.where):
            self._pool = await asyncpg.create_pool(
                self._url,
                min_size=0,
                max_size=MOST_CONNECTIONS,
                timeout=CONNECT_SECONDS,
                command_timeout=ANSWER_SECONDS,
                init=_prepare,
                reset=_leave_as_it_is,
                server_settings=SESSION,
                target_session_attrs=None if "target_session_attrs" in self._url else target,
            )

    async def close(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._pool.close()
        except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            self._pool.terminate()  # a server that is gone answers no goodbye

    async def fetch(self, sql: str, *parameters: Any) -> list[Row]:
        """One statement, durable when this returns; its rows."""
        with told(self.where):
            rows: list[Row] = await self._pool.fetch(sql, *parameters)
            return rows

    async def rewrite(self, table: str) -> None:
        """Give a small table a new file, without what was deleted; gives up where others are in the way."""
        async with self.connection() as connection:
            await connection.execute("SET lock_timeout = '200ms'")
            try:
                await connection.execute(f"VACUUM (FULL) {table}")
            finally:
                await connection.execute("RESET lock_timeout")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """One connection, for statements that must be one after the other on the same server."""
        with told(self.where):
            async with self._pool.acquire() as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[asyncpg.Connection]:
        """Several statements that become durable together, or not at all."""
        async with self.connection() as connection, connection.transaction(**options):
            yield connection

    async def position(self) -> str:
        """Up to where the log is on disk: what is committed and can be seen is before it."""
        ((position,),) = await self.fetch("SELECT pg_current_wal_flush_lsn()::text")
        return str(position)

    async def time_ms(self) -> int:
        """The server's clock: milliseconds since the epoch, while this was under way."""
        ((now,),) = await self.fetch("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(now)

    async def space(self) -> Space:
        ((size,),) = await self.fetch("SELECT pg_database_size(current_database())")
        return Space(data_bytes=size, log_bytes=None, free_bytes=None)

    async def _migrate(self, *, create: bool) -> None:
        """Do all steps that are missing, in one transaction, one program at a time."""
        steps = list(schema_steps())
        if await self._steps_done(steps) == len(steps):
            return  # so that who may only read and count needs no more rights
        if not create:
            await self.require()
        async with self.transaction() as transaction:
            await transaction.execute(_MIGRATING)
            await transaction.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            await transaction.execute(
                "CREATE TABLE IF NOT EXISTS schema_steps (step integer PRIMARY KEY, name text NOT NULL,"
                " least_program integer NOT NULL, done_at timestamptz NOT NULL DEFAULT now())"
            )
            # Asked with the lock held: two nodes may start on a new database at the same time.
            done = await transaction.fetchval("SELECT coalesce(max(step), 0) FROM schema_steps")
            for step in steps[done:]:
                await transaction.execute(step.script, timeout=None)
                await transaction.execute(
                    "INSERT INTO schema_steps VALUES ($1, $2, $3)", step.number, step.name, step.least_program
                )

    async def require(self) -> None:
        """Raises StoreError where the database has no store."""
        if not await self._begun():
            raise StoreError(
                f"there is no store at {self.where}; `statsvc serve` or `statsvc site add` makes one"
            )

    async def _refuse_unfinished_move(self) -> None:
        for (source,) in await self.fetch("SELECT source FROM moves WHERE NOT finished"):
            raise StoreError(
                f"{self.where}: {source} is being moved there, and that has not ended: stop the service that"
                " counts there, and run `statsvc migrate-store` to its end"
            )

    async def _begun(self) -> bool:
        ((begun,),) = await self.fetch("SELECT to_regclass($1) IS NOT NULL", f"{SCHEMA}.schema_steps")
        return bool(begun)

    async def _steps_done(self, steps: list[Step]) -> int:
        """How many of `steps` are done. Raises SchemaTooNew where a newer program's exclude this one."""
        if not await self._begun():
            return 0
        ((done, least),) = await self.fetch(
            "SELECT coalesce(max(step), 0), coalesce(max(least_program), 0) FROM schema_steps"
        )
        if least > len(steps):
            raise SchemaTooNew(
                f"{self.where} has schema {done}, written by a newer statsvc; it lets in programs that know"
                f" schema {least}, and this one knows schemas up to {len(steps)}. Use the newer program."
            )
        return min(int(done), len(steps))


def schema_steps() -> Iterable[Step]:
    """Each migration, in order."""
    folder = files("statsvc.stores.postgres") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    for number, name in enumerate(names, start=1):
        script = (folder / name).read_text()
        least = re.match(r"-- least: (\d+)\n", script)
        assert least is not None, f"{name} does not begin with the least program"
        yield Step(number, name.removesuffix(".sql"), int(least[1]), script)


def place_of(url: str) -> str:
    """The server and the database that a URL names, without who connects and how."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return f"PostgreSQL at {hosts or 'this machine'}, database {unquote(parts.path.removeprefix('/'))}"


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )
    if connection.get_server_version().major < OLDEST_POSTGRESQL:
        found = connection.get_server_version().major
        raise StoreError(f"PostgreSQL {OLDEST_POSTGRESQL} or newer is needed, this server is {found}")


async def _leave_as_it_is(_: asyncpg.Connection) -> None:
    """Nobody leaves anything in a connection; asyncpg's own reset would be a second round trip each time."""
