"""Which address is answered by what: the whole HTTP interface on one page."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from statsvc.address import Network
from statsvc.administration import Administration
from statsvc.announcements import Announcer
from statsvc.api.badge import BadgeRoutes
from statsvc.api.box import Boxes, BoxRoutes
from statsvc.api.dispatch import Dispatch, Handler, Observe, Together
from statsvc.api.events import EventRoutes
from statsvc.api.http import preflight
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
    streams: Streams
    draining: asyncio.Event
    """Not ready any more, and no connection is kept; what comes is answered."""
    trusted_proxies: tuple[Network, ...]
    sites_changed: Callable[[], Awaitable[None]]
    """Awaited after a change of sites or baselines."""


def public_routes(parts: Parts) -> Dispatch:
    """What pages call, from any origin."""
    reading = Reading(parts.sites, parts.registry)
    senders = Senders(parts.trusted_proxies, parts.announce)
    events = EventRoutes(parts.collector, senders)
    totals = TotalsRoutes(reading, parts.board, parts.clock)
    boxes = Boxes(parts.board, parts.clock)
    badge = BadgeRoutes(reading, boxes, parts.collector, senders)
    box = BoxRoutes(reading, boxes)
    pages = PageRoutes(parts.sites, parts.board, parts.clock)
    routes: dict[str, Mapping[str, Handler]] = {
        "/api/event": {"POST": Together(events.post)},
        "/hit.gif": {"GET": Together(events.pixel)},
        "/api/totals": _read(totals.get),
        "/api/address": _read(senders.get),
        "/api/stream": {"GET": parts.streams.get},
        "/badge.svg": _read(badge.get),
        "/box": _read(box.get),
        "/counter.js": _read(pages.script),
        "/": _read(pages.index),
    }
    with_preflight = {template: {**handlers, "OPTIONS": preflight} for template, handlers in routes.items()}
    return Dispatch(with_preflight, parts.announce, parts.observe)


def operations_routes(
    parts: Parts, metrics: CollectorRegistry, write_sites: Callable[[bool], Awaitable[bytes]]
) -> Dispatch:
    """What operators call; it must not face the internet."""
    operations = OperationsRoutes(parts.store, parts.draining, metrics, write_sites)
    sites = SitesRoutes(Administration(parts.registry), parts.registry, parts.clock, parts.sites_changed)
    site = "/api/sites/{domain}"
    routes: dict[str, Mapping[str, Handler]] = {
        "/metrics": _read(operations.metrics),
        "/-/healthy": _read(operations.healthy),
        "/-/ready": _read(operations.ready),
        "/api/sites": {**_read(sites.list), "POST": sites.add},
        site: {**_read(sites.show), "PATCH": sites.change, "DELETE": sites.remove},
        f"{site}/baselines": {"POST": sites.set_baseline},
        f"{site}/baselines/latest": {"DELETE": sites.undo_baseline},
        f"{site}/tokens": {"POST": sites.make_token},
        f"{site}/tokens/{{token}}": {"DELETE": sites.revoke_token},
    }
    return Dispatch(routes, parts.announce, parts.observe)


def _read(handler: Handler) -> dict[str, Handler]:
    """HEAD is GET without the body."""
    return {"GET": handler, "HEAD": handler}
