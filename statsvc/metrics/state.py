"""How the service stands: read when it is asked."""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Gauge, Histogram, Info, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from statsvc import __version__
from statsvc.ports import Space

LAG_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
LAG_EVERY_SECONDS = 0.25


class StateMetrics:
    """Gauges of what is in memory and on disk.

    `read` maps a gauge's name, without prefix, to what tells its value: `ready`, `pending_events`,
    `open_visits`, `window_entries`, `presence_known`, `requests_in_flight`, `connections` and
    `stream_readers`.
    """

    _HELPS: Mapping[str, str] = {
        "ready": "1 while the service is ready, 0 from the moment it is told to stop.",
        "pending_events": "Events in the open batch, waiting for their commit.",
        "open_visits": "Visits held in memory, people's and bots', of all sites.",
        "window_entries": "Visitors held in the sliding windows, people and bots, of all sites.",
        "presence_known": "1 where it is known who is current, 0 while the shared presence can't be reached.",
        "requests_in_flight": "Requests begun and not answered on the public listener, without streams.",
        "connections": "Open connections on the public listener, streams too.",
        "stream_readers": "Open streams of Server-Sent Events.",
    }

    def __init__(self, registry: CollectorRegistry, read: Mapping[str, Callable[[], int]]) -> None:
        for name, text in self._HELPS.items():
            Gauge(f"statsvc_{name}", text, registry=registry).set_function(read[name])
        self._space = _SpaceCollector()
        registry.register(self._space)
        self._lag = Histogram(
            "statsvc_event_loop_lag_seconds",
            "How much later than asked for the event loop came round; looked at four times a second.",
            buckets=LAG_SECONDS,
            registry=registry,
        )
        Info("statsvc_build", "The running program.", registry=registry).info({"version": __version__})

    def update(self, space: Space) -> None:
        self._space.space = space

    async def watch_lag(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_SECONDS
            await asyncio.sleep(LAG_EVERY_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))


class _SpaceCollector(Collector):
    """Gauges of the store's room, without those that it can't know."""

    _HELPS = (
        ("statsvc_store_bytes", "Size of the stored data."),
        ("statsvc_store_log_bytes", "Size of the store's write-ahead log."),
        ("statsvc_store_free_bytes", "Room left on the store's disk."),
    )

    def __init__(self) -> None:
        self.space = Space(0, None, None)

    def collect(self) -> Iterable[Metric]:
        for (name, text), value in zip(self._HELPS, self.space, strict=True):
            if value is not None:
                yield GaugeMetricFamily(name, text, value)
