"""Far more than it can do: what is accepted is counted, what is refused is told so, and operators see it all."""

import asyncio
import os
import re
import resource
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from statsvc import service
from statsvc.api.door import REQUESTS_AT_ONCE
from tests.load import Books, Ledger, Outcome, loading, noon_zone, until, user_agent
from tests.process import UNLIMITED, Service, command
from tests.test_connections import WHOLE, connected, cut, said
from tests.test_metrics import scraped
from tests.test_stop import no_commit_ends

SITE = "hue.gov.vn"
BODY = b'{"n":"pageview","u":"https://hue.gov.vn/tin-tuc/%d","d":"hue.gov.vn"}'
HEAD = b"POST /api/event HTTP/1.1\r\nHost: x\r\nUser-Agent: %b\r\nContent-Length: %d\r\n\r\n"
MOST_GROWTH_KIB = 400_000
"""What the process may grow by under any load from well-formed requests."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "stats.db"
    command(store, "site", "add", SITE, "--time-zone", noon_zone())
    return store


async def test_more_at_once_than_is_taken_is_refused_unread(
    start: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """While five wait for the disk, others get 503 and Retry-After at once; the five are counted, and only they."""
    monkeypatch.setattr(service, "REQUESTS_AT_ONCE", 5)
    ledger = Ledger()
    async with start() as app, loading(app.public.removeprefix("http://"), ledger) as load:
        await load.send(SITE, 0)
        async with (
            connected(app) as (known, writer),
            asyncio.TaskGroup() as tasks,
            no_commit_ends(tmp_path / "stats.db"),
        ):
            waiting = [tasks.create_task(load.send(SITE, visitor)) for visitor in range(5)]
            async with asyncio.timeout(10):
                while (await scraped(app))["statsvc_requests_in_flight", frozenset()] < 5:
                    await asyncio.sleep(0.01)
            writer.write(WHOLE)
            async with connected(app) as (new, of_new):
                of_new.write(WHOLE)
                for reader in (known, new):
                    answer = await said(reader)
                    assert answer.startswith(b"HTTP/1.1 503 ")
                    assert b"\r\nRetry-After: " in answer
                    assert b"\r\nAccess-Control-Allow-Origin: *" in answer
            assert not any(task.done() for task in waiting)
        assert len(ledger.acknowledged()) == 6
        assert (await app.totals())["pageviews"]["total"] == 6
        assert await cut(app) == {"busy": 2}
        assert (await scraped(app))["statsvc_requests_in_flight", frozenset()] == 0


async def test_streams_are_not_requests_at_once(start: Any, monkeypatch: Any) -> None:
    """However many read a stream, events are taken."""
    monkeypatch.setattr(service, "REQUESTS_AT_ONCE", 1)
    async with start() as app, AsyncExitStack() as streams:
        for _ in range(3):
            asked = app.session.get(f"{app.public}/api/stream?site={SITE}")
            response = await streams.enter_async_context(asked)
            await response.content.readline()
        await app.view("/")


class Flood:
    """Clients that send their next event the moment the last is answered, or refused."""

    def __init__(self, public: str, clients: int) -> None:
        host, _, port = public.rpartition(":")
        self._at = (host, int(port))
        self._clients = clients
        self._end = 0.0
        self.statuses: Counter[int] = Counter()
        self.seconds: dict[int, list[float]] = {202: [], 503: []}

    async def run(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        await asyncio.gather(*(self._client(number) for number in range(self._clients)))

    async def _client(self, number: int) -> None:
        body = BODY % (number % 50)
        event = HEAD % (user_agent(number % 20_000).encode(), len(body)) + body
        while time.monotonic() < self._end:
            began = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(*self._at)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            try:
                while time.monotonic() < self._end:
                    writer.write(event)
                    status, closed = await self._answer(reader)
                    self.statuses[status] += 1
                    if status in self.seconds:
                        self.seconds[status].append(time.monotonic() - began)
                    if closed:
                        break
                    began = time.monotonic()
            except (OSError, asyncio.IncompleteReadError):
                self.statuses[0] += 1
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        return int(head.split()[1]), b"connection: close" in head


@contextmanager
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def served_within(running: Service, share: float) -> float:
    """The bucket, in seconds, that so large a part of the accepted events lies in or below, from head to answer."""
    label = 'method="POST",route="/api/event",status="202"'
    bucket = rf'^statsvc_http_request_duration_seconds_bucket{{le="([^"]+)",{label}}} (\S+)$'
    rows = [(float(le), float(n)) for le, n in re.findall(bucket, running.get("/metrics")[1], re.MULTILINE)]
    return min(le for le, events in rows if events >= share * rows[-1][1])


def flooded(store: Path, clients: int, seconds: float) -> None:
    """Flood it, look how operators fare meanwhile, and afterwards whether all is as before."""
    with Service(store, *UNLIMITED) as running, many_files():
        running.get("/metrics")
        before = running.rss_kib()
        flood = Flood(running.public, clients)
        asked: dict[str, list[float]] = {"/metrics": [], "/-/healthy": []}
        most = 0

        async def operate() -> None:
            nonlocal most
            while True:
                for path, took in asked.items():
                    began = time.monotonic()
                    status, _ = await asyncio.to_thread(running.get, path)
                    assert status == 200
                    took.append(time.monotonic() - began)
                    most = max(most, running.rss_kib())
                await asyncio.sleep(0.2)

        async def all_of_it() -> None:
            operating = asyncio.create_task(operate())
            await flood.run(seconds)
            operating.cancel()
            with suppress(asyncio.CancelledError):
                await operating

        uvloop.run(all_of_it())
        recovering = time.monotonic()
        ledger = Ledger()

        async def again() -> None:
            async with loading(running.public, ledger) as load:
                await until(lambda: running.metric("statsvc_requests_in_flight") == 0)
                await load.send(SITE, 1)

        asyncio.run(again())
        recovered = time.monotonic() - recovering
        served = served_within(running, 0.99)
        accepted, refused = (sorted(flood.seconds[status]) for status in (202, 503))
        print(
            f"\n{clients:,} clients for {seconds:g} s: {len(accepted):,} accepted, p50"
            f" {statistics.median(accepted):.3f} s, p99 {accepted[len(accepted) * 99 // 100]:.3f} s;"
            f" {len(refused):,} refused"
            + (f", p50 {statistics.median(refused):.3f} s" if refused else "")
            + f"; by the service's own clock 99 of 100 accepted within {served:g} s"
            + f"; other answers {sum(flood.statuses.values()) - len(accepted) - len(refused):,};"
            f" RSS {before:,} KiB before, {most:,} KiB at most;"
            + "".join(f" {path} at most {max(took):.2f} s;" for path, took in asked.items())
            + f" recovered after {recovered:.2f} s"
        )
        assert set(flood.statuses) <= {0, 202, 503}
        assert [sent.outcome for sent in ledger.sent] == [Outcome.ACKNOWLEDGED]
        assert most - before < MOST_GROWTH_KIB
        assert len(accepted) + 1 <= Books.read(store).pageviews <= len(accepted) + 1 + flood.statuses[0]
        assert running.metric("statsvc_faults_total") == 0
        assert [line["event"] for line in running.lines] == ["started"]
        assert running.stop() == 0
        assert Books.read(store).disagreements() == []


def test_a_flood_of_a_few_seconds_is_got_over(store: Path) -> None:
    """All are answered 202 or 503; what was acknowledged is counted; operators are served; no line is logged."""
    flooded(store, REQUESTS_AT_ONCE + 500, 3.0)


@pytest.mark.torture
def test_a_flood_of_minutes_is_got_over(store: Path) -> None:
    """Ten thousand clients at once, as many as this machine's ports and open files allow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    flooded(store, min(10_000, hard - 1000), float(os.environ.get("STATSVC_FLOOD_SECONDS", "120")))
