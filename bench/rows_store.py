"""Rows about what the service holds: many sites, many visitors, much history, and how it all grows."""

import asyncio
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import msgspec

from bench import month as months
from bench import past
from bench.cores import SERVER_CORE, on_core
from bench.crowd import Crowd
from bench.figures import Figure
from bench.requests import Requests, events, reads
from bench.servers import Server, statsvc
from bench.stage import SITE, Ours, Stage

BUSY = 64
POSTINGS = 5
"""Times as long as other loads: of a thousand sites, what was committed is posted every few seconds."""
CLIENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def sites(stage: Stage) -> Iterator[Figure]:
    """A thousand sites at once instead of one."""
    many = stage.scale(1000, 100)
    store = stage.folder() / "stats.db"
    past.write(store, sites=many, days=0, pages=1)
    domains = past.domains(many)
    one, all_of_them = events(sites=domains[:1]), events(sites=domains)
    with stage.service(store, domains) as service:
        rates = _in_turns(stage, (service, one), (service, all_of_them))
    yield _compared("sites", f"{many:,} sites at once: of one site's", 0.8, "one/s", "many/s", *rates)


def visitors(stage: Stage) -> Iterator[Figure]:
    """A million current visitors against a thousand."""
    many = stage.scale(1_000_000, 20_000)
    stage.spin()
    few = crowd(stage.folder() / "stats.db", 1000)
    full = stage.folder() / "stats.db"
    crowded = crowd(full, many)
    empty = stage.folder() / "stats.db"
    with statsvc(empty, "--site", SITE) as server:
        _acknowledged(server, SITE)
        bare_bytes = server.memory_bytes()
    memory, restarts = [], []
    for _ in range(stage.rounds):
        stage.spin()
        began = time.monotonic()
        with statsvc(full) as server:
            current = _acknowledged(server, SITE)
            restarts.append(time.monotonic() - began)
            memory.append((server.memory_bytes() - bare_bytes) / many)
        assert current > many * 0.99, f"{current:,} visitors are current, {many:,} were expected"
    what = f"{many:,} current visitors"
    yield Figure(
        "visitors",
        f"{what}: memory of the whole process for each, after a restart",
        memory,
        200,
        False,
        "bytes",
        {"grown by events": crowded.grown_bytes / many},
    )
    seen = {"µs": crowded.touch_us, "µs of 1,000": few.touch_us}
    yield Figure(
        "visitors",
        f"{what}: a touch, of that with 1,000",
        [crowded.touch_us / few.touch_us],
        2,
        False,
        seen=seen,
    )
    yield Figure("visitors", f"{what}: restart to the first acknowledged event", restarts, 5, False, "s")


def history(stage: Stage) -> Iterator[Figure]:
    """Ten years of a thousand sites with a hundred pages each, against none."""
    count, days, pages = stage.scale(1000, 20), stage.scale(3652, 60), 100
    domains = past.domains(count)
    big, empty = stage.folder() / "stats.db", stage.folder() / "stats.db"
    past.write(big, sites=count, days=days, pages=pages)
    past.write(empty, sites=count, days=0, pages=pages)
    what = f"{days:,} days of {count:,} sites, {count * pages:,} pages"
    starts = []
    for _ in range(stage.rounds):
        began = time.monotonic()
        with statsvc(big) as server:
            _acknowledged(server, domains[0])
            starts.append(time.monotonic() - began)
    seen = {"GB": big.stat().st_size / 1e9}
    yield Figure("history", f"{what}: start to the first acknowledged event", starts, 2, False, "s", seen)
    asked: dict[str, Requests] = {
        "events": events(sites=domains, pages=pages),
        "totals": reads("/api/totals?site={}", domains),
    }
    with stage.service(big, domains) as old, stage.service(empty, domains) as new:
        for name, requests in asked.items():
            rates = _in_turns(stage, (new, requests), (old, requests))
            yield _compared(
                "history", f"{what}: {name}, of an empty store's", 0.9, "empty/s", "with/s", *rates
            )
    shutil.rmtree(big.parent)


def month(stage: Stage) -> Iterator[Figure]:
    """A simulated month."""
    stage.spin()
    days, visitors_a_day, pages = stage.scale(30, 3), stage.scale(20_000, 1000), 1000
    store = stage.folder() / "stats.db"
    with on_core(SERVER_CORE):
        lived = asyncio.run(months.live(store, days, visitors_a_day, pages))
    what = (
        f"growth over {days} days of {visitors_a_day:,} visitors on {pages:,} pages, after clean-up, an event"
    )
    seen = {"events": float(lived.events), "MB": lived.grown_bytes / 1e6}
    yield Figure("month", what, [lived.grown_bytes / lived.events], 60, False, "bytes", seen)


def crowd(store: Path, count: int) -> Crowd:
    """Make a store whose site has so many current visitors."""
    command = [sys.executable, "-m", "bench.crowd", str(store), SITE, str(count)]
    with on_core(SERVER_CORE):
        done = subprocess.run(command, capture_output=True, timeout=300, check=True)
    return msgspec.json.decode(done.stdout, type=Crowd)


def _in_turns(
    stage: Stage, base: tuple[Ours, Requests], other: tuple[Ours, Requests]
) -> tuple[list[float], list[float]]:
    """The rates of both in each round, of loads that are long enough for several postings."""
    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(stage.rounds):
        stage.spin()
        for of_one, (service, requests) in zip(rates, (base, other), strict=True):
            of_one.append(stage.load(service, requests, BUSY, POSTINGS * stage.seconds).rate)
    return rates


def _compared(
    row: str, what: str, goal: float, base: str, other: str, base_rates: list[float], rates: list[float]
) -> Figure:
    ratios = [rate / base_rate for rate, base_rate in zip(rates, base_rates, strict=True)]
    return Figure(row, what, ratios, goal, True, seen={base: median(base_rates), other: median(rates)})


def _acknowledged(server: Server, site: str) -> int:
    """One event; the site's current visitors as its answer tells them."""
    body = msgspec.json.encode({"n": "pageview", "u": f"https://{site}/", "d": site})
    request = urllib.request.Request(f"http://{server.address}/api/event", body, {"User-Agent": CLIENT})
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - it is ours
        current: int = msgspec.json.decode(answer.read())["current"]["visitors"]
        return current
