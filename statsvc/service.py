"""The only place that knows all parts: built in order, stopped in the order that loses nothing."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from statsvc.announcements import Announcer, Observer, Started, Stopped, Stopping
from statsvc.api.listener import Listener
from statsvc.api.routes import operations_app, public_app
from statsvc.board import Board
from statsvc.clock import SystemClock
from statsvc.collector import Collector
from statsvc.config import Address, Settings
from statsvc.housekeeping import Housekeeping
from statsvc.ingest import Ingest
from statsvc.keyring import Keyring
from statsvc.log import LogObserver
from statsvc.metrics import MetricsObserver
from statsvc.model import Site
from statsvc.ports import Clock, Registry
from statsvc.presence.memory import MemoryPresence
from statsvc.sites import Sites
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore


class Running(NamedTuple):
    public: Address
    operations: Address


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The service, from its first answer to its last. Raises StoreError or ConfigError at the start."""
    clock = clock or SystemClock()
    observers: list[Observer] = [LogObserver()]
    announce = Announcer(observers)
    stopping = asyncio.Event()
    async with AsyncExitStack() as stack:
        database = await Database.open(settings.store, serving=True)
        stack.push_async_callback(database.close)
        store, registry = SqliteStore(database), SqliteRegistry(database)
        await _register(settings, registry, clock)
        sites, keyring, presence = Sites(registry), Keyring(store), MemoryPresence(store)
        board = Board(store, presence)
        housekeeping = Housekeeping(store, sites, keyring, presence, board, clock, announce)
        await housekeeping.follow_changes()
        await keyring.load()
        await presence.open(sites, clock.now())

        ingest = Ingest(store, presence, board, sites, clock, announce)
        metrics = CollectorRegistry()
        for of_python in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            metrics.register(of_python)
        observers.append(MetricsObserver(metrics, clock, lambda: ingest.pending))
        collector = Collector(sites, keyring, ingest, board, clock, announce)
        operations = Listener(operations_app(store, stopping, metrics, announce))
        public = Listener(
            public_app(
                sites, registry, board, collector, clock, announce, settings.trusted_proxy, stopping=stopping
            )
        )

        # Stopped in the opposite order: drain, commit and answer what is here, close, then the rest.
        housekeeping.start()
        stack.push_async_callback(housekeeping.stop)
        stack.push_async_callback(operations.close)
        operations_at = await operations.open(settings.ops_listen)
        stack.push_async_callback(public.close)
        ingest.start()
        stack.push_async_callback(ingest.stop)
        public_at = await public.open(settings.listen)
        stack.push_async_callback(public.drain)

        announce(Started(str(public_at), str(operations_at), str(settings.store), len(sites)))
        try:
            yield Running(public_at, operations_at)
        finally:
            stopping.set()
            announce(Stopping())
    announce(Stopped())


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; then stop accepting, commit what is here, answer it, and return."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings):
        await stop.wait()


async def _register(settings: Settings, registry: Registry, clock: Clock) -> None:
    """Register the sites named by --site that are new."""
    known = {site.domain for site in await registry.sites()}
    for domain in settings.site:
        if domain not in known:
            site = Site(id=0, domain=domain, time_zone=settings.time_zone)
            await registry.add(site, clock.now().wall_ms)
            known.add(domain)


@asynccontextmanager
async def opened_registry(store: Path) -> AsyncIterator[Registry]:
    """The sites, for a command; beside a running service or without one."""
    database = await Database.open(store, serving=False)
    try:
        yield SqliteRegistry(database)
    finally:
        await database.close()
