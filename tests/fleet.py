"""Nodes of one service: real processes over one PostgreSQL and one Redis, each with an outbox of its own."""

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

from tests.load import Ledger, Sent, noon_zone
from tests.nodes import kept_ports
from tests.postgres import PostgresServer
from tests.process import UNLIMITED, Service, answer

NODES = 3


class Fleet:
    """Its nodes stay at their addresses while they are killed and started again. A context manager."""

    def __init__(
        self,
        folder: Path,
        store: str,
        presence: str,
        sites: Sequence[str],
        *options: str,
        environments: Sequence[Mapping[str, str]] = ({},) * NODES,
    ) -> None:
        self.store = store
        self._folder = folder
        self._environments = environments
        named = [part for site in sites for part in ("--site", site)]
        common = ("--presence", presence, "--trusted-proxy", "127.0.0.1", "--time-zone", noon_zone())
        self._options = (*common, *named, *UNLIMITED, *options)
        self._stack = ExitStack()
        self.publics: list[str] = self._stack.enter_context(kept_ports(len(environments)))
        with ThreadPoolExecutor() as starting:
            self.nodes = list(starting.map(self._service, range(len(environments))))

    def _service(self, number: int) -> Service:
        place = ("--listen", self.publics[number], "--outbox", str(self._folder / f"outbox{number}.db"))
        environment = dict(self._environments[number])
        return Service(self.store, *place, *self._options, env=environment)

    def start(self, number: int) -> None:
        """A node that was killed, once more."""
        self.nodes[number] = self._service(number)

    def waiting(self) -> int:
        """Batches in the outboxes of nodes that run."""
        running = [node for node in self.nodes if node.process.poll() is None]
        return int(sum(node.metric("statsvc_outbox_batches") for node in running))

    def shown(self, site: str, *paths: str) -> list[dict[str, Any]]:
        """What each node shows of a site, without the moment and the peaks, which are the node's own."""
        return [numbers(node.public, site, paths) for node in self.nodes]

    def agree(self, site: str, pageviews: int) -> dict[str, Any] | None:
        """What all nodes show, once they show the same and have counted so many."""
        first, *others = self.shown(site)
        there = first["pageviews"]["total"] == pageviews
        return first if there and all(other == first for other in others) else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.__exit__()
        self._stack.close()


def numbers(public: str, site: str, paths: Sequence[str] = ()) -> dict[str, Any]:
    query = urlencode([("site", site), *(("path", path) for path in paths)])
    status, text = answer(public, f"/api/totals?{query}")
    assert status == 200, text
    totals = json.loads(text)
    return {
        **{key: totals[key] for key in ("visits", "pageviews", "visitors", "pages") if key in totals},
        "current": totals["current"]["visitors"],
    }


@contextmanager
def hanging(server: PostgresServer) -> Iterator[None]:
    """It takes connections and answers nothing."""
    _signal_all(server, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal_all(server, signal.SIGCONT)


def _signal_all(server: PostgresServer, number: signal.Signals) -> None:
    """To the server and all processes of its connections."""
    assert server.process is not None
    parent = server.process.pid
    os.kill(parent, number)
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if f"\nPPid:\t{parent}\n" in status.read_text():
                os.kill(int(status.parent.name), number)


class Counted:
    """What PostgreSQL has of people's pageviews of some sites, read past all of the service's code."""

    def __init__(self, server: PostgresServer, store: str, sites: Sequence[str]) -> None:
        self._server = server
        self._database = store.rpartition("/")[2].partition("?")[0]
        those = ", ".join(f"'{site}'" for site in sites)
        of_them = f"JOIN statsvc.sites ON site = id WHERE domain IN ({those})"
        self.pages = self._read(f"SELECT path, sum(pageviews) FROM statsvc.pages {of_them} GROUP BY path")
        self.sites = self._read(f"SELECT domain, pageviews FROM statsvc.totals {of_them} AND bot = 0")

    def _read(self, sql: str) -> Counter[str]:
        rows = (row.rpartition("|") for row in self._server.sql(sql, self._database).splitlines())
        return Counter({name: int(views) for name, _, views in rows})

    @property
    def pageviews(self) -> int:
        return sum(self.pages.values())

    def check(self, ledger: Ledger) -> None:
        """Acknowledged ≤ counted ≤ sent; and of the pages that were sent once each, which: none lost, none twice."""
        acknowledged = _viewed(ledger.acknowledged())
        sent = _viewed(ledger.sent)
        once = {path: views for path, views in self.pages.items() if path.startswith("/once/") and views}
        lost = {path for path in acknowledged if path.startswith("/once/")} - once.keys()
        assert "(other)" not in self.pages, "pages can't be told apart any more"
        assert not lost, f"{len(lost)} acknowledged, and not counted"
        assert [path for path, views in once.items() if views > 1] == [], "sent once, and counted twice"
        assert acknowledged.total() <= self.pageviews <= sent.total()
        for path in sent:
            assert acknowledged[path] <= self.pages[path] <= sent[path], path


def _viewed(events: Sequence[Sent]) -> Counter[str]:
    return Counter(event.path for event in events if event.name == "pageview")


@asynccontextmanager
async def following(publics: Sequence[str], site: str) -> AsyncIterator[list["Follower"]]:
    """A reader of each node's stream."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        )
        followers = []
        for public in publics:
            response = await stack.enter_async_context(session.get(f"http://{public}/api/stream?site={site}"))
            followers.append(Follower(response))
        tasks = [asyncio.create_task(follower.read()) for follower in followers]
        try:
            yield followers
        finally:
            for task in tasks:
                task.cancel()


class Follower:
    """What a stream told last, and when."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.totals: dict[str, Any] | None = None
        self.told_at = 0.0

    async def read(self) -> None:
        async for line in self._response.content:
            if line.startswith(b"data: "):
                self.totals, self.told_at = json.loads(line[6:]), time.monotonic()

    def pageviews(self) -> int:
        return -1 if self.totals is None else int(self.totals["pageviews"]["total"])
