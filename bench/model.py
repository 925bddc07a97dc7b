"""A fleet as a queueing model: nodes, PostgreSQL, Redis, their cores and their disk.

A closed loop: each connection sends its next event when the last is answered. A node gathers events while
its commit runs, as `statsvc.ingest` does, so batches grow with load and cost less an event. The costs are
measured with one node under two loads (`Costs.of`); what the model says of other loads and of two nodes is
held against what is measured there (`bench.rows_fleet`).
"""

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import msgspec

from statsvc.ingest import GATHERING_ROUNDS


class Line(msgspec.Struct, frozen=True):
    """CPU microseconds of a call: so much for each, and so much for each event in it."""

    call: float
    event: float

    def of(self, events: int) -> float:
        return self.call + self.event * events

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> "Line":
        """From two points, each (events in a call, microseconds of an event)."""
        (few, few_us), (many, many_us) = small, large
        # us = call / events + event, for both.
        call = max(0.0, (few_us - many_us) / (1 / few - 1 / many))
        return cls(call, max(0.0, many_us - call / many))


class Costs(msgspec.Struct, frozen=True):
    """What a batch costs where."""

    node: Line
    postgres: Line
    redis: Line
    sync_us: float
    """A commit's wait for the disk, which others share."""
    sender_us: float
    """What the senders compute for an event, on a core of their own, before its next one comes."""


class Fleet(msgspec.Struct, frozen=True):
    """What there is, and on which core each part runs: equal numbers share one."""

    node_cores: Sequence[int]
    postgres_cores: Sequence[int]
    redis_cores: Sequence[int]
    connections: int
    """In all; spread over the nodes."""


class Outcome(msgspec.Struct, frozen=True):
    rate: float
    """Events a second."""
    events_in_batch: float
    p50_ms: float
    busy: dict[str, float]
    """Share of its cores' time that each part took."""


class _Core:
    """Does one piece of work after the other, in the order of their coming."""

    def __init__(self) -> None:
        self.free_at = 0.0


class _Node:
    def __init__(self, core: int) -> None:
        self.cores = (core,)
        self.open: list[float] = []
        """When each event of the open batch was sent."""
        self.coming = 0
        """Events that have reached it and are not in the batch yet."""
        self.flushing = False


def simulate(fleet: Fleet, costs: Costs, seconds: float = 2.0) -> Outcome:
    """Play so many seconds, after a tenth of them to warm up."""
    play = _Play(fleet, costs, warm_us=seconds * 0.1e6)
    play.run(until_us=seconds * 1.1e6)
    latencies = sorted(play.latencies)
    parts = {"node": fleet.node_cores, "postgres": fleet.postgres_cores, "redis": fleet.redis_cores}
    return Outcome(
        rate=len(latencies) / seconds,
        events_in_batch=len(latencies) / max(1, play.batches),
        p50_ms=latencies[len(latencies) // 2] / 1000 if latencies else 0.0,
        busy={part: play.busy[part] / (seconds * 1e6 * len(set(cores))) for part, cores in parts.items()},
    )


class _Play:
    """Events on their way through the fleet, in the order of time (microseconds)."""

    def __init__(self, fleet: Fleet, costs: Costs, warm_us: float) -> None:
        self.latencies: list[float] = []
        self.batches = 0
        self.busy = dict.fromkeys(("node", "postgres", "redis"), 0.0)
        self._fleet = fleet
        self._costs = costs
        self._warm_us = warm_us
        numbers = {*fleet.node_cores, *fleet.postgres_cores, *fleet.redis_cores}
        self._cores = {number: _Core() for number in numbers}
        self._nodes = [_Node(core) for core in fleet.node_cores]
        self._senders = _Core()
        self._syncing = False
        self._unsynced: list[Callable[[], None]] = []
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._now = 0.0

    def run(self, until_us: float) -> None:
        for connection in range(self._fleet.connections):
            self._send(self._nodes[connection % len(self._nodes)])
        while self._agenda and self._agenda[0][0] < until_us:
            self._now, _, then = heapq.heappop(self._agenda)
            then()

    def _at(self, time: float, then: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (time, next(self._order), then))

    def _work(self, part: str, cores: Sequence[int], us: float, then: Callable[[], None]) -> None:
        """On whichever of `cores` is free first."""
        core = min((self._cores[number] for number in cores), key=lambda one: one.free_at)
        core.free_at = max(self._now, core.free_at) + us
        if self._now >= self._warm_us:
            self.busy[part] += us
        self._at(core.free_at, then)

    def _send(self, node: _Node) -> None:
        def sent() -> None:
            at = self._now

            def arrive() -> None:
                node.coming -= 1
                node.open.append(at)
                self._flush(node)

            node.coming += 1
            # Half of what an event costs comes before its batch, half after it.
            self._work("node", node.cores, self._costs.node.event / 2, arrive)

        self._senders.free_at = max(self._now, self._senders.free_at) + self._costs.sender_us
        self._at(self._senders.free_at, sent)

    def _flush(self, node: _Node) -> None:
        if node.flushing or not node.open:
            return
        node.flushing = True
        batch: list[float] = []
        fleet, costs = self._fleet, self._costs

        def gather(rounds: int) -> None:
            if node.coming and rounds:
                # What has come goes with it, and what comes meanwhile.
                self._work("node", node.cores, 0, partial(gather, rounds - 1))
                return
            batch.extend(node.open)
            node.open.clear()
            self._work("redis", fleet.redis_cores, costs.redis.of(len(batch)), store)

        def store() -> None:
            self._work("postgres", fleet.postgres_cores, costs.postgres.of(len(batch)), sync)

        def sync() -> None:
            self._unsynced.append(answer)
            self._sync()

        def answer() -> None:
            node.flushing = False
            self._work("node", node.cores, costs.node.event / 2 * len(batch), lambda: self._done(node, batch))
            self._flush(node)

        self._work("node", node.cores, costs.node.call, partial(gather, GATHERING_ROUNDS))

    def _sync(self) -> None:
        """All commits that came during one sync of the log go with the next."""
        if self._syncing or not self._unsynced:
            return
        self._syncing = True
        together, self._unsynced = self._unsynced, []

        def synced() -> None:
            self._syncing = False
            for then in together:
                then()
            self._sync()

        self._at(self._now + self._costs.sync_us, synced)

    def _done(self, node: _Node, batch: Sequence[float]) -> None:
        if self._now >= self._warm_us:
            self.batches += 1
            self.latencies.extend(self._now - sent for sent in batch)
        for _ in batch:
            self._send(node)
