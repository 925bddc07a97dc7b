"""Rate, errors and duration of requests, by route."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_BOUNDS = [*(str(float(bound)) for bound in SECONDS), "+Inf"]


class _Durations:
    """Of one route, method and status."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUNDS)
        self.seconds = 0.0


class RequestMetrics(Collector):
    """Counts by itself: the client library's histogram takes a lock and 1.1 µs, and every request pays it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._durations: dict[tuple[str, str, int], _Durations] = {}
        registry.register(self)

    def observe(self, route: str, method: str, status: int, seconds: float, count: int) -> None:
        """`route` is a template and `method` one that is answered there: both are bounded."""
        key = (route, method, status)
        durations = self._durations.get(key)
        if durations is None:
            durations = self._durations[key] = _Durations()
        durations.counts[bisect_left(SECONDS, seconds)] += count
        durations.seconds += seconds * count

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(
            "statsvc_http_request_duration_seconds",
            "Time from a request's head to its answer, by route template, method and status.",
            labels=["route", "method", "status"],
        )
        for (route, method, status), durations in list(self._durations.items()):
            buckets = list(zip(_BOUNDS, accumulate(durations.counts), strict=True))
            family.add_metric([route, method, str(status)], buckets, durations.seconds)
        yield family
