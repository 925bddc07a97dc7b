"""`kill -9` under load, again and again on one store: acknowledged means counted, once."""

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from statsvc.cardinality import OTHER
from tests.load import PAGES, Books, Ledger, Load, Sent, loading, noon_zone, pageviews, until, visitors
from tests.process import Service, command

ROUNDS = 8
ROUNDS_A_STORE = 75
"""So that a site has fewer paths a day than are counted apart."""
TORTURE_ROUNDS = os.environ.get("STATSVC_CRASH_ROUNDS", "")
LONG_SECONDS, SHORT_SECONDS = 86400, 15
SITES = {"hue.gov.vn": LONG_SECONDS, "danang.gov.vn": LONG_SECONDS, "short.gov.vn": SHORT_SECONDS}
"""Each site's window. In the long one, whoever was counted today is still current."""
NEW_PEOPLE = 150
"""How many visitors each round has that the one before had not."""
STRANGER = 1_000_000
"""From this number on, visitors that no load sends."""
TIMING_SECONDS = 1.0
"""How exactly it is known from outside when an event happened."""


async def test_kill_9_loses_nothing_acknowledged_and_counts_nothing_twice(tmp_path: Path) -> None:
    """After each of a few kills, acknowledged ≤ counted ≤ sent, for every number there is."""
    await _torment(tmp_path / "stats.db", ROUNDS)


@pytest.mark.torture
@pytest.mark.skipif(not TORTURE_ROUNDS, reason="STATSVC_CRASH_ROUNDS tells how many rounds to run")
async def test_hundreds_of_kills_lose_nothing_acknowledged_and_count_nothing_twice(tmp_path: Path) -> None:
    """After each of hundreds of kills, acknowledged ≤ counted ≤ sent, for every number there is."""
    for first in range(0, int(TORTURE_ROUNDS), ROUNDS_A_STORE):
        rounds = min(ROUNDS_A_STORE, int(TORTURE_ROUNDS) - first)
        await _torment(tmp_path / f"{first}.db", rounds)


async def _torment(store: Path, rounds: int) -> None:
    seed = os.environ.get("STATSVC_CRASH_SEED") or str(random.randrange(10**6))
    print(f"STATSVC_CRASH_SEED={seed}")
    chance, ledger = random.Random(seed), Ledger()
    secrets: dict[tuple[int, str], bytes] = {}
    for site, window in SITES.items():
        spans = ("--window", str(window), "--visit-gap", str(LONG_SECONDS))
        command(store, "site", "add", site, "--time-zone", noon_zone(), *spans)
    for number in range(1, rounds + 1):
        if chance.random() < 0.3:
            _kill_while_it_starts(store, chance.uniform(0, 1))
        with Service(store) as service:
            async with loading(service.public, ledger) as load:
                await _check_numbers(load, ledger)
                secrets = _check_books(store, ledger, secrets)
                await _check_identities(load, ledger, chance, STRANGER + number)
                people = range(NEW_PEOPLE * number)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(load.run(list(SITES), people, chance))
                    tasks.create_task(_kill(service, ledger, chance))
            service.kill()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await _check_numbers(load, ledger)
            await _check_increments(load, ledger, chance)
            await _check_numbers(load, ledger)
        _check_books(store, ledger, secrets)
        assert service.stop() == 0
    ledger.print_figures("kill -9 under load", rounds, Books.read(store).pageviews)


async def _kill(service: Service, ledger: Ledger, chance: random.Random) -> None:
    """At a random moment, of the load and within what the service does for an event."""
    events = len(ledger.sent) + chance.randrange(1, 600)
    await until(lambda: len(ledger.sent) >= events)
    await asyncio.sleep(chance.uniform(0, 0.02))
    service.process.kill()


def _kill_while_it_starts(store: Path, seconds: float) -> None:
    arguments = ("--store", f"sqlite://{store}", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")
    with subprocess.Popen(
        [sys.executable, "-m", "statsvc", "serve", *arguments], stderr=subprocess.DEVNULL
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()


async def _check_numbers(load: Load, ledger: Ledger) -> None:
    """Every number of the API lies between what was acknowledged and what was sent."""
    for site, window in SITES.items():
        acknowledged, sent = ledger.acknowledged(site), ledger.of(site)
        asked = time.monotonic()
        totals = await load.totals(site, PAGES)
        answered = time.monotonic()

        counted = totals["pageviews"]["total"]
        assert pageviews(acknowledged) <= counted <= pageviews(sent)
        assert totals["pageviews"]["today"] == counted
        told = max((_pageviews_told(event) for event in acknowledged), default=0)
        assert told <= counted, "a total once told went back"

        visits = totals["visits"]["total"]
        assert len(visitors(acknowledged)) <= visits <= len(visitors(sent))
        assert totals["visits"]["today"] == totals["visitors"]["today"] == visits

        current = totals["current"]["visitors"]
        surely = [event for event in acknowledged if event.began > answered - window + TIMING_SECONDS]
        perhaps = [event for event in sent if event.ended > asked - window - TIMING_SECONDS]
        assert len(visitors(surely)) <= current <= len(visitors(perhaps))
        if window == LONG_SECONDS:
            assert current == visits

        for path, page in totals["pages"].items():
            here = [event for event in acknowledged if event.path == path]
            perhaps = [event for event in sent if event.path == path]
            assert pageviews(here) <= page["pageviews"] <= pageviews(perhaps), path
            assert len(visitors(here)) <= page["visits"] <= len(visitors(perhaps)), path


def _pageviews_told(event: Sent) -> int:
    told: int = orjson.loads(event.answer)["pageviews"]["total"] if event.answer else 0
    return told


def _check_books(
    store: Path, ledger: Ledger, secrets: dict[tuple[int, str], bytes]
) -> dict[tuple[int, str], bytes]:
    """Page by page, and table by table; the secrets are those there were, and are returned."""
    books = Books.read(store)
    acknowledged = {event.path for event in ledger.acknowledged() if event.name == "pageview"}
    sent = {event.path for event in ledger.sent if event.name == "pageview"}
    once = {path: views for path, views in books.pages.items() if path.startswith("/once/") and views}
    assert OTHER not in books.pages, "pages can't be told apart any more: these were too many rounds"
    lost = {path for path in acknowledged if path.startswith("/once/")} - once.keys()
    twice = [path for path, views in once.items() if views > 1]
    assert not lost, "acknowledged, and not counted"
    assert not twice, "sent once, and counted twice"
    assert once.keys() <= sent
    assert books.disagreements() == []
    assert secrets.items() <= books.secrets.items()
    return books.secrets


async def _check_identities(load: Load, ledger: Ledger, chance: random.Random, stranger: int) -> None:
    """Visitors of before are known again; one who never was here is new."""
    for site in SITES:
        known = sorted(visitors(ledger.acknowledged(site)))
        before = await load.totals(site)
        for visitor in chance.sample(known, min(10, len(known))):
            assert await load.send(site, visitor, name="engagement")
        assert await _visits_and_visitors(load, site) == _both(before), "a visitor was not known again"
        assert await load.send(site, stranger, name="engagement")
        assert await _visits_and_visitors(load, site) == tuple(count + 1 for count in _both(before))


async def _check_increments(load: Load, ledger: Ledger, chance: random.Random) -> None:
    """With nobody killed, the totals rise by exactly what was sent."""
    before = {site: await load.totals(site) for site in SITES}
    known = {site: sorted(visitors(ledger.acknowledged(site))) for site in SITES}
    new = range(2 * STRANGER, 2 * STRANGER + NEW_PEOPLE)
    for site in SITES:
        began = len(ledger.sent)
        enough = began + 500
        await load.run([site], [*known[site], *new], chance, enough)
        sent = ledger.sent[began:]
        assert {event.status for event in sent} == {202}
        totals = await load.totals(site)
        assert totals["pageviews"]["total"] - before[site]["pageviews"]["total"] == pageviews(sent)
        came = len(visitors(sent) - set(known[site]))
        assert _both(totals) == tuple(count + came for count in _both(before[site]))


async def _visits_and_visitors(load: Load, site: str) -> tuple[int, int]:
    return _both(await load.totals(site))


def _both(totals: dict[str, dict[str, int]]) -> tuple[int, int]:
    return totals["visits"]["total"], totals["visitors"]["today"]
