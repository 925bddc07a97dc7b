"""What the settings' URLs mean: the only place that knows which backends there are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from statsvc.announcements import Announcer
from statsvc.clock import FleetClock, SystemClock
from statsvc.config import PostgresUrl, Settings, StoreUrl
from statsvc.errors import ConfigError, StoreError
from statsvc.ports import Claims, Clock, Presence, Registry, Store
from statsvc.presence.memory import MemoryPresence
from statsvc.redis_url import RedisUrl
from statsvc.stores.agreements import Difference
from statsvc.stores.outbox import OutboxFile, OutboxStore
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from statsvc.stores.sqlite.audit import audit as audit_file
from statsvc.stores.sqlite.backup import LEFT_OUT, Copy
from statsvc.stores.sqlite.backup import back_up as back_up_file

if TYPE_CHECKING:
    from statsvc.stores.move import Moved


class OpenedStore(NamedTuple):
    store: Store
    registry: Registry
    time_ms: Callable[[], Awaitable[int]] | None
    """The clock of all who share the store, in milliseconds since the epoch; None where nobody can."""


@asynccontextmanager
async def opened_store(
    url: StoreUrl,
    *,
    serving: bool = False,
    create: bool | None = None,
    read_replica: PostgresUrl | None = None,
) -> AsyncIterator[OpenedStore]:
    """The store, beside a running service or without one; `serving` for the service itself.

    Where there is none, it is made if `create`, by default when serving. Raises StoreError, or ConfigError
    where its driver is not installed.
    """
    create = serving if create is None else create
    async with AsyncExitStack() as stack:
        if isinstance(url, Path):
            file = await Database.open(url, serving=serving, create=create)
            stack.push_async_callback(file.close)
            yield OpenedStore(SqliteStore(file), SqliteRegistry(file), None)
        else:
            postgres = _postgres()
            database = await postgres.PostgresDatabase.open(url.url, create=create)
            stack.push_async_callback(database.close)
            replica = None
            if read_replica is not None:
                replica = await postgres.PostgresReplica.open(read_replica.url)
                stack.push_async_callback(replica.close)
            yield OpenedStore(
                postgres.PostgresStore(database, replica),
                postgres.PostgresRegistry(database),
                database.time_ms,
            )


class ServedStore(NamedTuple):
    store: Store
    registry: Registry
    clock: Clock
    """The clock of all who serve from the store."""
    outbox: OutboxFile | None
    """What waits for the store; None where that is on this machine."""


@asynccontextmanager
async def served_store(settings: Settings, announce: Announcer) -> AsyncIterator[ServedStore]:
    """The store, for the service itself, and behind an outbox where it is in a network.

    Raises as `opened_store` does.
    """
    async with (
        opened_store(settings.store, serving=True, read_replica=settings.read_replica) as opened,
        AsyncExitStack() as stack,
    ):
        store, registry, time_ms = opened
        if time_ms is None:
            yield ServedStore(store, registry, SystemClock(), None)
            return
        clock = FleetClock(time_ms)
        await clock.open()
        following = asyncio.create_task(clock.follow(), name="fleet clock")
        stack.callback(following.cancel)
        behind = await OutboxStore.open(store, settings.outbox, settings.outbox_size, announce)
        stack.push_async_callback(behind.close)
        yield ServedStore(behind, registry, clock, behind.outbox)


def audit(url: StoreUrl, progress: Callable[[str, float], None]) -> Iterator[Difference]:
    """Everything in the store that is not as it must be. `progress` is told what is looked at, and how
    much of all was. Raises StoreError where it can't be read at all.
    """
    if isinstance(url, Path):
        return audit_file(url, progress)
    differences: Iterator[Difference] = _postgres().audit(url.url, progress)
    return differences


def back_up(url: StoreUrl, to: Path, progress: Callable[[str, float], None]) -> Copy:
    """Copy the store to the new file `to`. Raises StoreError where that isn't done, with what to do."""
    if isinstance(url, Path):
        return back_up_file(url, to, progress)
    left_out = " ".join(f"--exclude-table-data=statsvc.{table}" for table in sorted(LEFT_OUT))
    raise StoreError(
        "PostgreSQL copies its databases itself, also while they are served:\n"
        f"    pg_dump --format=custom --file={quote(str(to))} --schema=statsvc {left_out} {quote(str(url))}"
    )


async def move(source: StoreUrl, to: StoreUrl, progress: Callable[[str, float], None]) -> "Moved":
    """One pass of moving a store. Raises StoreError where that can't be done; it may be begun again."""
    if not isinstance(source, Path) or isinstance(to, Path):
        raise ConfigError(["a store is moved from sqlite:///PATH to postgresql://USER@HOST/DATABASE"])
    _postgres()
    from statsvc.stores.move import move as move_file  # noqa: PLC0415 - needs the driver

    return await move_file(source, to.url, progress)


def _postgres() -> ModuleType:
    try:
        from statsvc.stores import postgres  # noqa: PLC0415 - its driver is there only where it is used
    except ImportError:
        raise ConfigError(["a PostgreSQL store needs its driver: pip install 'statsvc[fleet]'"]) from None
    return postgres


class OpenedPresence(NamedTuple):
    presence: Presence
    claims: Claims | None
    """Which events are counted on any node; None where there is only this one."""


@asynccontextmanager
async def opened_presence(
    url: RedisUrl | None, store: Store, announce: Announcer
) -> AsyncIterator[OpenedPresence]:
    """Where it is known who is current. Raises ConfigError where its driver is not installed."""
    if url is None:
        yield OpenedPresence(MemoryPresence(store), None)
        return
    # The driver is there only where it is used; `connected` says so where it is missing.
    from statsvc.presence.client import connected  # noqa: PLC0415

    async with connected(url) as client:
        from statsvc.presence.claims import FallbackClaims, RedisClaims  # noqa: PLC0415
        from statsvc.presence.fallback import FallbackPresence  # noqa: PLC0415
        from statsvc.presence.redis import RedisPresence  # noqa: PLC0415

        presence = FallbackPresence(RedisPresence(client, store), store, announce)
        claims = FallbackClaims(RedisClaims(client, store), presence)
        try:
            yield OpenedPresence(presence, claims)
        finally:
            await claims.close()
            await presence.close()
