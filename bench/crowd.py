"""`python -m bench.crowd STORE SITE VISITORS`: a new store whose site has so many current visitors.

Tells, as JSON, how much memory they took, and what touching one of them costs.
"""

import asyncio
import random
import sys
import time
from pathlib import Path

import msgspec

from bench.inside import Inside, inside
from bench.requests import PAGES, path
from statsvc.clock import SystemClock

BATCH = 1000
TOUCHES = 100
"""Hits of visitors who come back, in a batch that is timed: as many as a busy service's."""
REPEATS = 200


class Crowd(msgspec.Struct, frozen=True):
    grown_bytes: int
    """By how much the process grew."""
    touch_us: float
    """What a hit of a visitor who is current costs; the median of many batches."""


async def gather(store: Path, domain: str, visitors: int) -> Crowd:
    clock = SystemClock()
    chance = random.Random(1)
    async with inside(store, domain, clock.now()) as core:
        before = _memory_bytes()
        ids = [chance.getrandbits(60) for _ in range(visitors)]
        for first in range(0, visitors, BATCH):
            now = clock.now()
            await core.record(
                [
                    core.hit(visitor, path(chance.randrange(PAGES)), "pageview", now)
                    for visitor in ids[first : first + BATCH]
                ]
            )
        grown = _memory_bytes() - before
        return Crowd(grown, await _touch_us(core, ids, chance, clock))


async def _touch_us(core: Inside, ids: list[int], chance: random.Random, clock: SystemClock) -> float:
    times = []
    for _ in range(REPEATS):
        now = clock.now()
        visitors = chance.choices(ids, k=TOUCHES)
        hits = [core.hit(visitor, path(chance.randrange(PAGES)), "pageview", now) for visitor in visitors]
        began = time.perf_counter()
        await core.presence.touch(hits)
        times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] / TOUCHES * 1e6


def _memory_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def main(store: str, domain: str, visitors: str) -> None:
    crowd = asyncio.run(gather(Path(store), domain, int(visitors)))
    sys.stdout.write(msgspec.json.encode(crowd).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
