"""What operators call, on a listener of its own: metrics and health."""

import asyncio
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import hdrs
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from statsvc.api.answer import Answer
from statsvc.api.http import json_error
from statsvc.api.request import Request
from statsvc.errors import StoreError
from statsvc.ports import Store

PROBE_SECONDS = 5.0


class OperationsRoutes:
    def __init__(
        self,
        store: Store,
        draining: asyncio.Event,
        registry: CollectorRegistry,
        write_sites: Callable[[bool], Awaitable[bytes]],
    ) -> None:
        """`write_sites` gives the lines of the metrics that aren't in `registry`, as OpenMetrics if True."""
        self._store = store
        self._draining = draining
        self._registry = registry
        self._write_sites = write_sites

    async def metrics(self, request: Request) -> Answer:
        """All metrics; those of sites and the store are as of now."""
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        of_sites = await self._write_sites(content_type.startswith("application/openmetrics-text"))
        # In a thread of its own, as hits go on. OpenMetrics ends in a line of its own, so sites come first.
        body = of_sites + await asyncio.to_thread(encode, self._registry)
        return Answer(200, body, {hdrs.CONTENT_TYPE: content_type})

    async def healthy(self, _: Request) -> Answer:
        """Whether an event could be committed now: commits something of no meaning to find out."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._store.probe()
        except StoreError as exc:
            return json_error(503, str(exc))
        except TimeoutError:
            return json_error(503, f"nothing could be committed within {PROBE_SECONDS:g} seconds")
        return _ok()

    async def ready(self, _: Request) -> Answer:
        """Whether events are taken."""
        if self._draining.is_set():
            return json_error(503, "the service is stopping")
        return _ok()


def _ok() -> Answer:
    return Answer(200, orjson.dumps({"status": "ok"}))
