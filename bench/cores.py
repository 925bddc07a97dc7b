"""One core for the server, one for the load; and how steady the machine is meanwhile."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]
"""The same one where the machine has only one: the table says so."""
SPINS = 200_000


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started meanwhile runs on `core` for all of its life, threads and children too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spin_seconds() -> float:
    """How long a fixed piece of pure computing takes on the server's core now."""
    with on_core(SERVER_CORE):
        began = time.perf_counter()
        number = 1
        for _ in range(SPINS):
            number = number * 6364136223846793005 + 1442695040888963407 & (1 << 60) - 1
        return time.perf_counter() - began
