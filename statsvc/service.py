"""The only place that knows all parts: built in order, stopped in the order that loses nothing."""

import asyncio
import ctypes
import gc
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import NamedTuple

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, CollectorRegistry

from statsvc.announcements import Announcer, Draining, Observer, Started, Stopped, Stopping
from statsvc.api.door import MOST_UNANSWERED_BYTES, REQUESTS_AT_ONCE, Door
from statsvc.api.http import COMMON_HEADERS, OPERATIONS_HEADERS
from statsvc.api.listener import Listener
from statsvc.api.reading import Reading
from statsvc.api.routes import Parts, operations_routes, public_routes
from statsvc.api.stream import Streams
from statsvc.backends import opened_presence, served_store
from statsvc.board import Board
from statsvc.collector import Collector
from statsvc.config import Address, Settings
from statsvc.errors import SiteError, StoreError
from statsvc.housekeeping import Housekeeping
from statsvc.ingest import Ingest
from statsvc.keyring import Keyring
from statsvc.limits import Limits
from statsvc.log import LogObserver
from statsvc.metrics.announced import AnnouncedMetrics
from statsvc.metrics.counters import write_counters
from statsvc.metrics.outbox import OutboxCollector
from statsvc.metrics.requests import RequestMetrics
from statsvc.metrics.sites import write_sites
from statsvc.metrics.state import StateMetrics
from statsvc.model import Site
from statsvc.ports import Clock, Registry
from statsvc.sites import Sites

OPEN_FILES = 65_536
MOST_CONNECTIONS = 16_384
FILES_FOR_THE_REST = 512
"""The store's, the listeners', and the operations listener's connections: these must go on."""
ONE_EACH = "; with --reuse-port each process needs an --ops-listen of its own"
ALL_SHARE = "; with --reuse-port each process on it has to say so, and run as the same user"


class Running(NamedTuple):
    public: Address
    operations: Address
    drain: Callable[[], None]
    """Say that it is not ready any more, and in each answer that its connection ends; all else goes on."""


@asynccontextmanager
async def running(settings: Settings, clock: Clock | None = None) -> AsyncIterator[Running]:
    """The service, from its first answer to its last. Raises StoreError or ConfigError at the start."""
    observers: list[Observer] = [LogObserver()]
    announce = Announcer(observers)
    draining, stopping = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(served_store(settings, announce))
        store, registry, clock = served.store, served.registry, clock or served.clock
        await _register(settings, registry, clock)
        sites, keyring = Sites(registry), Keyring(store)
        presence, claims = await stack.enter_async_context(
            opened_presence(settings.presence, store, announce)
        )
        board = Board(store, presence)
        housekeeping = Housekeeping(
            store, sites, keyring, presence, board, clock, announce, settings.keep_page_days
        )
        await housekeeping.follow_changes()
        await keyring.load()
        await presence.open(sites, clock.now())

        ingest = Ingest(store, presence, board, sites, clock, announce, claims)
        limits = Limits(settings.visitor_limit, settings.network_limit)
        collector = Collector(sites, limits, keyring, ingest, board, clock, announce)
        metrics = CollectorRegistry()
        observers.append(announced := AnnouncedMetrics(metrics, clock))
        streams = Streams(Reading(sites, registry), sites, board, clock, announce, stopping)
        parts = Parts(
            sites=sites,
            registry=registry,
            store=store,
            board=board,
            collector=collector,
            clock=clock,
            announce=announce,
            observe=RequestMetrics(metrics).observe,
            streams=streams,
            draining=draining,
            trusted_proxies=settings.trusted_proxy,
            sites_changed=housekeeping.read_sites,
        )
        door = Door(
            public_routes(parts),
            announce,
            COMMON_HEADERS,
            draining,
            most_connections=_room(),
            requests_at_once=REQUESTS_AT_ONCE,
            unanswered_bytes=MOST_UNANSWERED_BYTES,
            streams=lambda: streams.readers,
        )
        state = StateMetrics(
            metrics,
            {
                "ready": lambda: not draining.is_set(),
                "pending_events": lambda: ingest.pending,
                "open_visits": presence.open_visits,
                "window_entries": presence.window_entries,
                "presence_known": presence.is_known,
                "requests_in_flight": lambda: door.requests,
                "connections": lambda: door.connections,
                "stream_readers": lambda: streams.readers,
            },
        )
        if served.outbox is not None:
            metrics.register(OutboxCollector(served.outbox, clock))
        write = _site_writer(metrics, state, announced, parts)
        public = Listener(door)
        operations = Listener(
            Door(operations_routes(parts, metrics, write), announce, OPERATIONS_HEADERS, draining)
        )

        # Stopped in the opposite order: drain, commit and answer what is here, close, then the rest.
        stack.callback(asyncio.create_task(state.watch_lag()).cancel)
        housekeeping.start()
        stack.push_async_callback(housekeeping.stop)
        stack.push_async_callback(operations.close)
        operations_at = await operations.open(
            settings.ops_listen, where_taken=ONE_EACH if settings.reuse_port else ""
        )
        stack.push_async_callback(public.close)
        streams.start()
        stack.push_async_callback(streams.stop)
        ingest.start()
        stack.push_async_callback(ingest.stop)
        public_at = await public.open(
            settings.listen,
            shared=settings.reuse_port,
            where_taken=ALL_SHARE if settings.reuse_port else "",
        )
        stack.push_async_callback(public.drain)

        announce(
            Started(
                public=str(public_at),
                operations=str(operations_at),
                store=str(settings.store),
                presence=str(settings.presence or "memory:"),
                sites=len(sites),
            )
        )
        try:
            yield Running(public_at, operations_at, partial(_drain, draining, announce))
        finally:
            draining.set()
            stopping.set()
            announce(Stopping())
    announce(Stopped())


def _drain(draining: asyncio.Event, announce: Announcer) -> None:
    draining.set()
    announce(Draining())


def _site_writer(
    metrics: CollectorRegistry, state: StateMetrics, announced: AnnouncedMetrics, parts: Parts
) -> Callable[[bool], Awaitable[bytes]]:
    """What writes the sites' metrics, and brings those that are read on demand up to now."""
    for of_python in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
        metrics.register(of_python)
    totals = b""

    async def write(openmetrics: bool) -> bytes:
        nonlocal totals
        # When the store is in trouble metrics are wanted most: those of before stand for these.
        with suppress(StoreError):
            totals = await write_sites(parts.board.of_all(parts.sites, parts.clock.now()))
            state.update(await parts.store.space())
        return totals + await write_counters(announced.of_sites, openmetrics=openmetrics)

    return write


async def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; then stop accepting, commit what is here, answer it, and return.

    Before it stops accepting it drains, if it is set to; a second signal ends that at once.
    """
    _allow_open_files()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(settings) as service:
        # Of what is here now most stays: the garbage collector needn't look at it, nor often at what comes
        # and goes, nearly all of which goes without it.
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        _give_memory_back()
        await stop.wait()
        if settings.drain_seconds:
            stop.clear()
            service.drain()
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), settings.drain_seconds)


def _give_memory_back() -> None:
    """What reading the journals took: glibc keeps it, 90 bytes for each open visit, unless it is asked."""
    with suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


def _allow_open_files() -> None:
    """Each connection is an open file, and the usual limit is 1,024; a process may raise its own."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if limit != resource.RLIM_INFINITY and limit < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _room() -> int:
    """How many connections there may be on the public listener."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(open_files - FILES_FOR_THE_REST, open_files // 2))


async def _register(settings: Settings, registry: Registry, clock: Clock) -> None:
    """Register the sites named by --site that are new; one that was removed stays so."""
    sites = await registry.sites()
    for domain in settings.site:
        if not any(domain in (site.domain, *site.aliases) for site in sites):
            site = Site(id=0, domain=domain, time_zone=settings.time_zone)
            with suppress(SiteError):
                sites.append(await registry.add(site, clock.now().wall_ms))
