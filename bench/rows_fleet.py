"""Rows about a fleet: nodes over PostgreSQL and Redis, what an event costs on each, and the model of it."""

import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import msgspec

from bench.engines import Engines, engines
from bench.figures import Figure
from bench.load import BenchError
from bench.model import Costs, Fleet, Line, simulate
from bench.requests import events
from bench.servers import Server, statsvc
from bench.stage import SITE, Stage

FEW, MANY = 4, 256
"""Connections under which the model's costs are measured, with one node."""
HELD_AGAINST = ((1, 16), (1, 64), (2, 16), (2, 64), (2, 256))
"""Nodes and connections under which the model is held against what is measured."""
WARM = 16
"""Connections of a node's first load."""
CORE = 0
"""Nodes and engines share the server's core: the other one makes the load."""


class Point(msgspec.Struct, frozen=True):
    """One load on a fleet. Costs are CPU microseconds of an event."""

    nodes: int
    connections: int
    rate: float
    p50_ms: float
    events_in_batch: float
    node_us: float
    postgres_us: float
    redis_us: float
    wal_bytes: float
    commands: float
    sender_us: float


def fleet(stage: Stage) -> Iterator[Figure]:
    """One and two nodes on one core with their engines."""
    with engines(stage.folder()) as started:
        if started is None:
            return
        stage.spin()
        held_against = HELD_AGAINST[-2:] if stage.quick else HELD_AGAINST
        points = ((1, FEW), (1, MANY), *held_against)
        measured = {at: _point(stage, started, *at) for at in points}
        stage.spin()
    few, many = measured[1, FEW], measured[1, MANY]
    costs = costs_of(few, many)
    for nodes, connections in ((1, MANY), (2, MANY)):
        point = measured[nodes, connections]
        what = f"a fleet of {nodes} with PostgreSQL and Redis on one core, {connections} connections"
        seen = {
            "events in a batch": point.events_in_batch,
            "node CPU µs": point.node_us,
            "PostgreSQL CPU µs": point.postgres_us,
            "Redis CPU µs": point.redis_us,
            "WAL bytes": point.wal_bytes,
            "Redis commands": point.commands,
            "p50 ms": point.p50_ms,
        }
        yield Figure("fleet", f"{what}: events a second", [point.rate], None, seen=seen)
    for nodes, connections in held_against:
        point = measured[nodes, connections]
        outcome = simulate(Fleet([CORE] * nodes, [CORE], [CORE], connections), costs)
        what = (
            f"the model of {nodes} node{'s'[: nodes - 1]}, {connections} connections: rate, of the measured"
        )
        seen = {
            "model/s": outcome.rate,
            "measured/s": point.rate,
            "model's events in a batch": outcome.events_in_batch,
            "measured": point.events_in_batch,
        }
        yield Figure("fleet", what, [outcome.rate / point.rate], None, seen=seen)


def costs_of(few: Point, many: Point) -> Costs:
    """From one node's costs under few and under many connections."""

    def line(of_few: float, of_many: float) -> Line:
        return Line.through((few.events_in_batch, of_few), (many.events_in_batch, of_many))

    costs = Costs(
        node=line(few.node_us, many.node_us),
        postgres=line(few.postgres_us, many.postgres_us),
        redis=line(few.redis_us, many.redis_us),
        sync_us=0.0,
        sender_us=many.sender_us,
    )
    # What of the time between two batches nobody computes is the disk's, and the other waits.
    busy = few.node_us + few.postgres_us + few.redis_us
    idle_us = max(0.0, 1e6 / few.rate - busy) * few.events_in_batch
    return msgspec.structs.replace(costs, sync_us=idle_us)


def _point(stage: Stage, started: Engines, nodes: int, connections: int) -> Point:
    with ExitStack() as stack:
        shared = ("--site", SITE, "--presence", started.presence)
        servers = [
            stack.enter_context(
                statsvc(started.store, *shared, "--outbox", str(stage.folder() / "outbox.db"))
            )
            for _ in range(nodes)
        ]
        requests = events(sites=[SITE])
        for server in servers:
            stage.load(server, requests, WARM, stage.seconds / 3)
        counted = _counted(started)
        before, computed = started.spent(), _cpu_us(servers)
        senders = _children_us()
        with ThreadPoolExecutor(nodes) as pool:
            loads = list(pool.map(lambda server: stage.load(server, requests, connections // nodes), servers))
        senders = _children_us() - senders
        spent, computed = started.spent().since(before), _cpu_us(servers) - computed
        answers = sum(load.answers for load in loads)
        counted = _counted(started) - counted
        # What was under way when a load was stopped may be there, and of the first ones come late.
        if not answers <= counted <= answers + connections + WARM * nodes:
            raise BenchError(f"{answers:,} pageviews were acknowledged, {counted:,} are in the store")
    return Point(
        nodes=nodes,
        connections=connections,
        rate=sum(load.rate for load in loads),
        p50_ms=max(load.p50_ms for load in loads),
        events_in_batch=answers / spent.batches,
        node_us=computed / answers,
        postgres_us=spent.postgres_us / answers,
        redis_us=spent.redis_us / answers,
        wal_bytes=spent.wal_bytes / answers,
        commands=spent.commands / answers,
        sender_us=senders / answers,
    )


def _counted(started: Engines) -> int:
    return int(started.sql("SELECT coalesce(sum(pageviews), 0) FROM statsvc.totals WHERE bot = 0"))


def _cpu_us(servers: Sequence[Server]) -> float:
    return sum(server.cpu_seconds() for server in servers) * 1e6


def _children_us() -> float:
    """What the processes computed that were started and have ended: between two calls, the senders."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6
