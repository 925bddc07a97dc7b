"""Which address is answered by what: the whole HTTP interface on one page."""

import asyncio

from aiohttp import web
from prometheus_client import CollectorRegistry

from statsvc.address import Network
from statsvc.announcements import Announcer
from statsvc.api.events import EventRoutes
from statsvc.api.http import common_headers, errors_as_json, preflight
from statsvc.api.operations import OperationsRoutes
from statsvc.api.pages import PageRoutes
from statsvc.api.totals import TotalsRoutes
from statsvc.board import Board
from statsvc.collector import Collector
from statsvc.ports import Clock, Registry, Store
from statsvc.sites import Sites

LARGEST_EVENT_BYTES = 16 * 1024


def public_app(
    sites: Sites,
    registry: Registry,
    board: Board,
    collector: Collector,
    clock: Clock,
    announce: Announcer,
    trusted_proxies: tuple[Network, ...],
    stopping: asyncio.Event,
) -> web.Application:
    """What pages call, from any origin."""
    app = web.Application(client_max_size=LARGEST_EVENT_BYTES, middlewares=[errors_as_json(announce)])
    app.on_response_prepare.append(common_headers(stopping))
    events = EventRoutes(collector, trusted_proxies)
    totals = TotalsRoutes(sites, registry, board, clock)
    pages = PageRoutes(sites, board, clock)
    app.add_routes(
        [
            web.post("/api/event", events.post),
            web.get("/hit.gif", events.pixel, allow_head=False),
            web.get("/api/totals", totals.get),
            web.get("/counter.js", pages.script),
            web.get("/", pages.index),
        ]
    )
    for resource in list(app.router.resources()):
        app.router.add_options(resource.canonical, preflight)
    return app


def operations_app(
    store: Store, stopping: asyncio.Event, metrics: CollectorRegistry, announce: Announcer
) -> web.Application:
    """What operators call; it must not face the internet."""
    app = web.Application(middlewares=[errors_as_json(announce)])
    operations = OperationsRoutes(store, stopping, metrics)
    app.add_routes(
        [
            web.get("/metrics", operations.metrics),
            web.get("/-/healthy", operations.healthy),
            web.get("/-/ready", operations.ready),
        ]
    )
    return app
