"""What waits for a store in a network: read when it is asked."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from statsvc.ports import Clock, Outbox


class OutboxCollector(Collector):
    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        outbox = self._outbox
        oldest_ms, now_ms = outbox.oldest_ms, self._clock.now().wall_ms
        age_ms = 0 if oldest_ms is None else max(0, now_ms - oldest_ms)
        for name, text, value in (
            ("batches", "Batches that wait for the store.", outbox.batches),
            ("bytes", "Size of the batches that wait for the store.", outbox.size_bytes),
            (
                "limit_bytes",
                "How much may wait; when so much does, events are refused.",
                outbox.most_bytes,
            ),
            ("age_seconds", "How long the first batch waits for the store; 0: none does.", age_ms / 1000),
        ):
            yield GaugeMetricFamily(f"statsvc_outbox_{name}", text, value)
