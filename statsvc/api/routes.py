"""Which address is answered by what: the whole HTTP interface on one page."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry

from statsvc.address import Network
from statsvc.administration import Administration
from statsvc.announcements import Announcer
from statsvc.api.badge import BadgeRoutes
from statsvc.api.box import Boxes, BoxRoutes
from statsvc.api.events import EventRoutes
from statsvc.api.http import OPERATIONS_HEADERS, Observe, answering, common_headers, preflight
from statsvc.api.operations import OperationsRoutes
from statsvc.api.pages import PageRoutes
from statsvc.api.reading import Reading
from statsvc.api.senders import Senders
from statsvc.api.sites import SitesRoutes
from statsvc.api.stream import Streams
from statsvc.api.totals import TotalsRoutes
from statsvc.board import Board
from statsvc.collector import Collector
from statsvc.ports import Clock, Registry, Store
from statsvc.sites import Sites

LARGEST_EVENT_BYTES = 16 * 1024
STREAMS: web.AppKey[Streams] = web.AppKey("streams", Streams)


@dataclass(frozen=True, slots=True)
class Parts:
    """What routes stand on; built in `service.py`."""

    sites: Sites
    registry: Registry
    store: Store
    board: Board
    collector: Collector
    clock: Clock
    announce: Announcer
    observe: Observe
    draining: asyncio.Event
    """Not ready any more, and no connection is kept; what comes is answered."""
    stopping: asyncio.Event
    trusted_proxies: tuple[Network, ...]
    sites_changed: Callable[[], Awaitable[None]]
    """Awaited after a change of sites or baselines."""


def public_app(parts: Parts) -> web.Application:
    """What pages call, from any origin."""
    app = web.Application(
        client_max_size=LARGEST_EVENT_BYTES, middlewares=[answering(parts.announce, parts.observe)]
    )
    app.on_response_prepare.append(common_headers(parts.draining))
    senders = Senders(parts.trusted_proxies, parts.announce)
    events = EventRoutes(parts.collector, senders)
    reading = Reading(parts.sites, parts.registry)
    totals = TotalsRoutes(reading, parts.board, parts.clock)
    streams = Streams(reading, parts.sites, parts.board, parts.clock, parts.announce, parts.stopping)
    app[STREAMS] = streams
    app.on_startup.append(streams.start)
    app.on_shutdown.append(streams.stop)
    boxes = Boxes(parts.board, parts.clock)
    badge = BadgeRoutes(reading, boxes, parts.collector, senders)
    box = BoxRoutes(reading, boxes)
    pages = PageRoutes(parts.sites, parts.board, parts.clock)
    app.add_routes(
        [
            web.post("/api/event", events.post),
            web.get("/hit.gif", events.pixel, allow_head=False),
            web.get("/api/totals", totals.get),
            web.get("/api/address", senders.get),
            web.get("/api/stream", streams.get, allow_head=False),
            web.get("/badge.svg", badge.get),
            web.get("/box", box.get),
            web.get("/counter.js", pages.script),
            web.get("/", pages.index),
        ]
    )
    for resource in list(app.router.resources()):
        app.router.add_options(resource.canonical, preflight)
    return app


def operations_app(
    parts: Parts, metrics: CollectorRegistry, write_sites: Callable[[bool], Awaitable[bytes]]
) -> web.Application:
    """What operators call; it must not face the internet."""
    app = web.Application(
        client_max_size=LARGEST_EVENT_BYTES, middlewares=[answering(parts.announce, parts.observe)]
    )
    app.on_response_prepare.append(common_headers(parts.draining, OPERATIONS_HEADERS))
    operations = OperationsRoutes(parts.store, parts.draining, metrics, write_sites)
    sites = SitesRoutes(Administration(parts.registry), parts.registry, parts.clock, parts.sites_changed)
    app.add_routes(
        [
            web.get("/metrics", operations.metrics),
            web.get("/-/healthy", operations.healthy),
            web.get("/-/ready", operations.ready),
            web.get("/api/sites", sites.list),
            web.post("/api/sites", sites.add),
            web.get("/api/sites/{domain}", sites.show),
            web.patch("/api/sites/{domain}", sites.change),
            web.delete("/api/sites/{domain}", sites.remove),
            web.post("/api/sites/{domain}/baselines", sites.set_baseline),
            web.delete("/api/sites/{domain}/baselines/latest", sites.undo_baseline),
            web.post("/api/sites/{domain}/tokens", sites.make_token),
            web.delete(r"/api/sites/{domain}/tokens/{token:[0-9]{1,9}}", sites.revoke_token),
        ]
    )
    return app
