"""What presence in Redis costs: its memory is bounded, and figures for docs/fleet.md."""

import random
import time
from typing import Any

import pytest

from statsvc.presence.redis import RedisPresence
from tests.facts import SITE, FakeClock, hit
from tests.redis_server import PATIENCE_SECONDS, RedisServer, redis_client

VISITORS = 100_000
PATHS = [f"/tin-tuc/chuyen-muc-{number % 20}/bai-viet-so-{number}.html" for number in range(2000)]
BATCHES = {1: 400, 50: 200, 500: 60}


@pytest.fixture
def server():
    with RedisServer() as server:
        yield server


def spent(server: RedisServer) -> tuple[float, int]:
    """Of Redis: seconds of its processor, and calls of the script."""
    cpu, calls = server.ask("INFO", "cpu"), server.ask("INFO", "commandstats")
    evalsha: dict[str, Any] = calls.get("cmdstat_evalsha", {"calls": 0})
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], evalsha["calls"]


def memory(server: RedisServer) -> int:
    return server.ask("INFO", "memory")["used_memory"]


@pytest.mark.torture
async def test_what_a_batch_and_a_visitor_cost(server, store, clock: FakeClock):
    """Memory grows with the visitors of the last half hour and of the day, and with nothing else."""
    chance = random.Random(1)
    ids = [chance.getrandbits(60) for _ in range(VISITORS)]
    async with redis_client(server.url) as client:
        presence = RedisPresence(client, store, patience_seconds=PATIENCE_SECONDS)
        await presence.open([SITE], clock.now())
        empty = memory(server)
        for first in range(0, VISITORS, 1000):
            await presence.touch(
                [hit(clock.now(), visitor, chance.choice(PATHS)) for visitor in ids[first : first + 1000]]
            )
        one_page = memory(server)
        print(f"\na visitor who has seen one page: {(one_page - empty) / VISITORS:.0f} bytes")
        for _ in range(2):
            for first in range(0, VISITORS, 1000):
                await presence.touch(
                    [hit(clock.now(), visitor, chance.choice(PATHS)) for visitor in ids[first : first + 1000]]
                )
        full = memory(server)
        print(f"three pages: {(full - empty) / VISITORS:.0f} bytes")
        for size, batches in BATCHES.items():
            hits = [
                [hit(clock.now(), chance.choice(ids), chance.choice(PATHS)) for _ in range(size)]
                for _ in range(batches)
            ]
            cpu, calls = spent(server)
            began, own = time.perf_counter(), time.process_time()
            for batch in hits:
                await presence.touch(batch)
            seconds, own = time.perf_counter() - began, time.process_time() - own
            redis_seconds, redis_calls = (
                after - before for after, before in zip(spent(server), (cpu, calls), strict=True)
            )
            print(
                f"a batch of {size}: {seconds / batches * 1000:.2f} ms, of the node's processor {own / batches * 1000:.2f},"
                f" of Redis's {redis_seconds / batches * 1000:.2f}; {redis_calls / batches:.0f} calls;"
                f" an event {redis_seconds / batches / size * 1e6:.0f} µs of Redis"
            )
        began = time.perf_counter()
        cpu, _ = spent(server)
        for _ in range(300):
            await presence.current(SITE, clock.now())
        print(
            f"current visitors: {(time.perf_counter() - began) / 300 * 1000:.2f} ms, of Redis {(spent(server)[0] - cpu) / 300 * 1000:.2f}"
        )
        for seconds, what in ((300, "leave the window"), (1500, "end their visits")):
            clock.advance(seconds)
            began = time.perf_counter()
            await presence.trim(clock.now())
            print(f"all {what} at once: {(time.perf_counter() - began) * 1000:.0f} ms")
        left = memory(server) - empty
        print(f"after they left: {left / VISITORS:.0f} bytes, the day's visitors")
        assert left < (full - empty) / 2
