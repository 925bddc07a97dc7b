"""What a scrape of 1,000 sites costs, and what those who send events meanwhile notice of it."""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.load import NAMES, Ledger, Load, figures, loading, user_agent
from tests.process import UNLIMITED, Service

SITES = tuple(f"portal-{number:04}.gov.vn" for number in range(1000))
SENDERS = 8
PAUSE_SECONDS = SENDERS / 300
SCRAPES = 20
SCRAPES_A_SECOND = 4
SCRAPER = """
import sys, time, urllib.request
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    urllib.request.urlopen(sys.argv[1], timeout=20).read()
    took = time.perf_counter() - began
    print(took)
    time.sleep(max(0, 1 / int(sys.argv[3]) - took))
"""


async def every_series(service: Service) -> None:
    """An event of each name, by a person and by a bot, on each site."""
    events = [
        (site, name, agent) for site in SITES for name in set(NAMES) for agent in (user_agent(1), "curl/8")
    ]

    async def work() -> None:
        while events:
            site, name, agent = events.pop()
            body = orjson.dumps({"n": name, "u": f"https://{site}/", "d": site})
            url = f"http://{service.public}/api/event"
            async with session.post(url, data=body, headers={"User-Agent": agent}) as response:
                assert response.status == 202

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as workers:
        for _ in range(50):
            workers.create_task(work())


async def scraped(operations: str) -> list[float]:
    """Seconds of each of `SCRAPES`, by a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRAPER, f"http://{operations}/metrics", str(SCRAPES), str(SCRAPES_A_SECOND)),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return [float(line) for line in output.split()]


async def send(load: Load, until: asyncio.Event, first: int) -> None:
    """About 300 events a second of all senders together, on one site after another."""
    for number in range(first, 1_000_000, SENDERS):
        began = time.monotonic()
        await load.send(SITES[number % len(SITES)], number)
        if until.is_set():
            return
        await asyncio.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - began)))


async def measured(service: Service, *, scraping: bool) -> tuple[list[float], list[float]]:
    """Seconds of each scrape and of each event while it goes on, or of events only, for as long."""
    ledger, enough = Ledger(), asyncio.Event()
    async with loading(service.public, ledger) as load, asyncio.TaskGroup() as senders:
        for number in range(SENDERS):
            senders.create_task(send(load, enough, number))
        if scraping:
            scrapes = await scraped(service.operations)
        else:
            scrapes = []
            await asyncio.sleep(SCRAPES / SCRAPES_A_SECOND)
        enough.set()
    assert ledger.sent == ledger.acknowledged()
    return scrapes, [sent.ended - sent.began for sent in ledger.sent]


def microseconds(what: str, seconds: Sequence[float]) -> dict[str, int]:
    percentiles = quantiles(seconds, n=100)
    return {
        f"{what}_events": len(seconds),
        f"{what}_p50_us": round(percentiles[49] * 1e6),
        f"{what}_p99_us": round(percentiles[98] * 1e6),
    }


@pytest.mark.torture
async def test_a_scrape_of_a_thousand_sites(tmp_path: Path):
    """It is whole, and events are taken meanwhile; prints how long both take."""
    sites = [argument for site in SITES for argument in ("--site", site)]
    with Service(tmp_path / "stats.db", *UNLIMITED, *sites) as service:
        await every_series(service)
        text = service.get("/metrics")[1]
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert len(families["statsvc_events"].samples) == len(SITES) * 6
        assert len(families["statsvc_visits"].samples) == len(SITES) * 2
        _, quiet = await measured(service, scraping=False)
        scrapes, busy = await measured(service, scraping=True)
    figures(
        "scrape of 1,000 sites",
        lines=text.count("\n"),
        bytes=len(text.encode()),
        scrapes=len(scrapes),
        scrape_median_us=round(median(scrapes) * 1e6),
        scrape_max_us=round(max(scrapes) * 1e6),
        **microseconds("quiet", quiet),
        **microseconds("scraped", busy),
    )
