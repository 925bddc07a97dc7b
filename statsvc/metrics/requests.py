"""Rate, errors and duration of requests, by route."""

from prometheus_client import CollectorRegistry, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class RequestMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "statsvc_http_request_duration_seconds",
            "Time from a request's head to its answer, by route template, method and status.",
            ["route", "method", "status"],
            buckets=SECONDS,
            registry=registry,
        )
        # Looking up a label costs as much as the observation: every request would pay it.
        self._known: dict[tuple[str, str, int], Histogram] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """`route` is a template and `method` one that is answered there: both are bounded."""
        key = (route, method, status)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._seconds.labels(route, method, str(status))
        known.observe(seconds)
