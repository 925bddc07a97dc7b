"""What a commit costs PostgreSQL, with every commit on disk: figures for docs/fleet.md, printed."""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from statsvc.model import Hit, Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.stores.postgres import PostgresDatabase, PostgresRegistry, PostgresStore
from statsvc.tally import fold
from tests.facts import NOON_MS, SITE, FakeClock, hit
from tests.postgres import PostgresServer

pytestmark = pytest.mark.torture
EVENTS = 40_000
"""Written in a run at most; and no run is longer than these:"""
SECONDS = 4.0


class Cost(NamedTuple):
    batches: int
    events: int
    seconds: float
    log_bytes: int
    cpu_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.batches / self.seconds:7,.0f} batches/s {self.events / self.seconds:9,.0f} events/s"
            f" {self.log_bytes / self.events:7,.0f} bytes of log an event"
            f" {self.cpu_seconds / self.events * 1e6:7,.0f} µs of the server's CPU an event"
        )


def cpu_seconds(server: PostgresServer) -> float:
    """Of the server's processes, those that have ended too."""
    assert server.process is not None
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if str(server.process.pid) in (fields[1], status.parent.name):
            ticks += sum(
                map(int, fields[11:15] if status.parent.name == str(server.process.pid) else fields[11:13])
            )
    return ticks / os.sysconf("SC_CLK_TCK")


async def some_batches(store: PostgresStore, sites: Sequence[Site], size: int, seed: int) -> list[Batch]:
    """Of readers who read three pages each, of 5,000 pages a site, some more than others."""
    chance, clock = random.Random(seed), FakeClock(NOON_MS)
    presence = MemoryPresence(store)
    await presence.open(sites, clock.now())
    batches = []
    for _ in range(EVENTS // size):
        hits: list[Hit] = []
        for _ in range(size):
            site, visitor = chance.choice(sites), chance.randrange(2**30)
            if chance.random() > 0.33 and hits:
                visitor = hits[-1].identity.visitor
            path = f"/tin-tuc/{int(5000 * chance.random() ** 2)}"
            hits.append(hit(clock.advance(0.001), visitor, path, site=site))
        touched = await presence.touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        at = clock.now().wall_ms
        batches.append(Batch(chance.getrandbits(63), at, tally, touched.open_visits))
    return batches


async def measured(server: PostgresServer, writers: int, size: int, sites: int) -> Cost:
    url = server.database()
    async with AsyncExitStack() as stack:
        stores = []
        for _ in range(writers):
            database = await PostgresDatabase.open(url)
            stack.push_async_callback(database.close)
            stores.append(PostgresStore(database))
        registry = PostgresRegistry(database)
        for number in range(sites):
            await registry.add(msgspec.structs.replace(SITE, domain=f"s{number}.vn"), NOON_MS)
        of_each = [
            await some_batches(store, await registry.sites(), size, n) for n, store in enumerate(stores)
        ]
        server.sql("CHECKPOINT")
        log, cpu = int(server.sql("SELECT pg_current_wal_lsn() - '0/0'")), cpu_seconds(server)
        began = time.monotonic()
        done = [0] * writers

        async def write(number: int) -> None:
            for batch in of_each[number]:
                await stores[number].commit(batch)
                done[number] += 1
                if time.monotonic() - began > SECONDS:
                    return

        await asyncio.gather(*map(write, range(writers)))
        seconds = time.monotonic() - began
        log = int(server.sql("SELECT pg_current_wal_lsn() - '0/0'")) - log
        return Cost(sum(done), size * sum(done), seconds, log, cpu_seconds(server) - cpu)


async def test_what_a_commit_costs():
    """By how many writers, of how many events, on how many sites."""
    with PostgresServer() as server:
        for sites in (1, 63):
            for size in (1, 20, 200, 1000):
                for writers in (1, 2):
                    cost = await measured(server, writers, size, sites)
                    print(f"{sites:2} sites, {writers} writers, batches of {size:4}: {cost}")
                    assert cost.batches
