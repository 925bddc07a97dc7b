"""Load over real sockets, with a ledger of what became of every event, and the books it must agree with.

A visitor is a User-Agent: browsers whose versions differ. All else about them is the same, so the
number of visitors a site counted can be compared with the ledger's sets.
"""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import orjson

PAGES = ("/", "/tin-tuc", "/tin-tuc/1", "/dich-vu-công", "/liên-hệ")
NAMES = ("pageview", "pageview", "pageview", "engagement", "Download")
WORKERS = 24
EVENT_SECONDS = 60.0


class Outcome(StrEnum):
    ACKNOWLEDGED = "acknowledged"
    """202."""
    REFUSED = "refused"
    """Any other answer; a 503 may still have been counted."""
    UNKNOWN = "unknown"
    """The connection died before there was a whole answer."""


class Sent(msgspec.Struct, frozen=True):
    """One event that reached a socket, and what came of it. Times are monotonic seconds."""

    site: str
    visitor: int
    name: str
    path: str
    outcome: Outcome
    began: float
    ended: float
    status: int = 0
    retry_after: str = ""
    connection: str = ""
    """What the answer's header of this name says."""
    answer: bytes = b""


class Ledger:
    """What was sent. `unreached` counts events for which no connection could be made: never sent."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.unreached = 0

    def of(self, site: str | None = None, outcome: Outcome | None = None) -> list[Sent]:
        return [
            sent
            for sent in self.sent
            if site in (None, sent.site) and (outcome is None or sent.outcome is outcome)
        ]

    def acknowledged(self, site: str | None = None) -> list[Sent]:
        return self.of(site, Outcome.ACKNOWLEDGED)

    def outcomes(self) -> Counter[str]:
        return Counter(sent.outcome.value for sent in self.sent)

    def print_figures(self, what: str, rounds: int, counted: int, **more: int) -> None:
        """Of pageviews. `lost` and `counted twice` are what the bounds say at least, and must be 0."""
        sent, acknowledged = pageviews(self.sent), pageviews(self.acknowledged())
        lost, twice = max(0, acknowledged - counted), max(0, counted - sent)
        figures(
            what,
            rounds=rounds,
            sent=sent,
            acknowledged=acknowledged,
            counted=counted,
            lost=lost,
            counted_twice=twice,
            **more,
        )


def pageviews(events: Iterable[Sent]) -> int:
    return sum(sent.name == "pageview" for sent in events)


def visitors(events: Iterable[Sent]) -> set[int]:
    return {sent.visitor for sent in events}


def figures(what: str, **numbers: int) -> None:
    """The line that a long test prints, as docs/reliability.md has it."""
    print(
        f"\n{what}: " + ", ".join(f"{name.replace('_', ' ')} {number:,}" for name, number in numbers.items())
    )


def noon_zone() -> str:
    """A time zone in which it is about noon, so that no test sees its day end."""
    hours_east = 12 - datetime.now(UTC).hour
    # POSIX's signs: Etc/GMT-7 is seven hours east of Greenwich.
    return f"Etc/GMT{-hours_east:+d}" if hours_east else "Etc/GMT"


def user_agent(visitor: int) -> str:
    version = f"{100 + visitor % 50}.0.{visitor // 50}.{visitor % 7}"
    return (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{version} Safari/537.36"
    )


class Load:
    """Sends events to the service at `public` (HOST:PORT), or to any of several, and writes them in `ledger`."""

    def __init__(
        self, public: str | Sequence[str], ledger: Ledger, session: aiohttp.ClientSession, *, ids: bool
    ) -> None:
        self._publics = [public] if isinstance(public, str) else public
        self._ids = ids
        self._ledger = ledger
        self._session = session
        self._enough = False

    @property
    def _public(self) -> str:
        return random.choice(self._publics)

    def end(self) -> None:
        """What `run` sends ends, with the answers under way."""
        self._enough = True

    async def until_sent(self, more: int) -> None:
        """Until the ledger has so many more events."""
        enough = len(self._ledger.sent) + more
        await until(lambda: len(self._ledger.sent) > enough)

    async def send(self, site: str, visitor: int, path: str = "/", name: str = "pageview") -> Sent | None:
        """One event, sent once; None where no connection could be made."""
        event = {"n": name, "u": f"https://{site}{path}", "d": site}
        if self._ids:
            event["id"] = f"{random.getrandbits(60):x}"
        outcome, status, answer = Outcome.UNKNOWN, 0, b""
        retry_after = connection = ""
        began = time.monotonic()
        try:
            async with self._session.post(
                f"http://{self._public}/api/event",
                data=orjson.dumps(event),
                headers={"User-Agent": user_agent(visitor), "Content-Type": "text/plain"},
            ) as response:
                status = response.status
                retry_after = response.headers.get("Retry-After", "")
                connection = response.headers.get("Connection", "")
                answer = await response.read()
                outcome = Outcome.ACKNOWLEDGED if status == 202 else Outcome.REFUSED
        except aiohttp.ClientConnectorError:
            self._ledger.unreached += 1
            return None
        except (aiohttp.ClientError, OSError):
            if status == 202:
                outcome = Outcome.ACKNOWLEDGED
        ended = time.monotonic()
        sent = Sent(site, visitor, name, path, outcome, began, ended, status, retry_after, connection, answer)
        self._ledger.sent.append(sent)
        return sent

    async def totals(self, site: str, paths: Iterable[str] = ()) -> dict[str, Any]:
        query = [("site", site), *(("path", path) for path in paths)]
        async with self._session.get(f"http://{self._public}/api/totals", params=query) as response:
            assert response.status == 200, await response.text()
            totals: dict[str, Any] = orjson.loads(await response.read())
            return totals

    async def until_waiting(self, operations: str, requests: int) -> None:
        """Until so many requests are under way in the service, as behind a commit that is held up."""
        async with asyncio.timeout(20):
            while True:
                async with self._session.get(f"http://{operations}/metrics") as response:
                    metrics = await response.text()
                if f"\nstatsvc_requests_in_flight {requests}.0\n" in metrics:
                    return

    async def run(
        self,
        sites: Sequence[str],
        people: Sequence[int],
        chance: random.Random,
        enough: float = inf,
    ) -> None:
        """Events of `people` from many connections, until the ledger has `enough`, `end`, or, where there is one
        service only, nobody listens.

        Half of the events are of pages of their own: `/once/…` is sent one time only, so that one
        that is lost and one that is counted twice can't make up for each other.
        """

        async def work() -> None:
            while len(self._ledger.sent) < enough and not self._enough:
                once = f"/once/{chance.getrandbits(60)}"
                path = chance.choice((once, chance.choice(PAGES)))
                sent = await self.send(
                    chance.choice(sites), chance.choice(people), path, chance.choice(NAMES)
                )
                if sent is None and len(self._publics) == 1:
                    return

        async with asyncio.TaskGroup() as workers:
            for _ in range(WORKERS):
                workers.create_task(work())


@asynccontextmanager
async def loading(public: str | Sequence[str], ledger: Ledger, *, ids: bool = False) -> AsyncIterator[Load]:
    """`ids`: each event has one of its own, so that whoever sends it again counts it once."""
    timeout = aiohttp.ClientTimeout(total=EVENT_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Load(public, ledger, session, ids=ids)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """As `process.eventually`, while this process's own load goes on."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


SUMS = {
    "visits and pageviews": (
        "SELECT site, bot, visits, pageviews FROM totals",
        "SELECT site, bot, sum(visits), sum(pageviews) FROM days GROUP BY site, bot",
        "SELECT site, bot, sum(visits), sum(pageviews) FROM hours GROUP BY site, bot",
    ),
    "events": (
        "SELECT site, bot, sum(events) FROM hours GROUP BY site, bot",
        "SELECT site, bot, sum(events) FROM names GROUP BY site, bot",
    ),
    "pageviews": (
        "SELECT site, sum(pageviews) FROM totals WHERE bot = 0 GROUP BY site",
        "SELECT site, sum(events) FROM names WHERE name = 'pageview' AND bot = 0 GROUP BY site",
        "SELECT site, sum(pageviews) FROM pages GROUP BY site",
        "SELECT site, sum(pageviews) FROM page_days GROUP BY site",
    ),
    "pages": (
        "SELECT site, path, visits, pageviews FROM pages",
        "SELECT site, path, sum(visits), sum(pageviews) FROM page_days GROUP BY site, path",
    ),
    "visitors": (
        "SELECT site, day, bot, visitors FROM days WHERE visitors",
        "SELECT site, day, bot, count(DISTINCT value) FROM newcomers, json_each(visitors) GROUP BY 1, 2, 3",
        "SELECT site, day, bot, count(value) FROM newcomers, json_each(visitors) GROUP BY 1, 2, 3",
    ),
}
"""What is added up in several tables: each query of a row gives the same."""


class Books(msgspec.Struct, frozen=True):
    """The SQLite file as an auditor reads it, past all of the service's code: its tables must agree."""

    pageviews: int
    pages: dict[str, int]
    """Pageviews by path, of all sites."""
    secrets: dict[tuple[int, str], bytes]
    sums: dict[str, list[set[Any]]]
    sound: str

    @classmethod
    def read(cls, store: Path) -> Self:
        """Beside the running service, as it is at one moment, with what is in the journal alone."""
        with (
            closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as file,
            closing(sqlite3.connect(":memory:", isolation_level=None)) as database,
        ):
            file.backup(database)
            sound = database.execute("PRAGMA integrity_check").fetchone()[0]
            database.execute("INSERT INTO postings SELECT * FROM postings")
            return cls(
                database.execute("SELECT coalesce(sum(pageviews), 0) FROM totals WHERE bot = 0").fetchone()[
                    0
                ],
                dict(database.execute("SELECT path, sum(pageviews) FROM pages GROUP BY path")),
                {(site, day): key for site, day, key in database.execute("SELECT * FROM secrets")},
                {name: [set(database.execute(query)) for query in queries] for name, queries in SUMS.items()},
                sound,
            )

    @staticmethod
    def pageviews_in(store: Path) -> int:
        """As `read` has it, from a file whose other pages may be damaged."""
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
            ((pageviews,),) = database.execute(
                "SELECT coalesce(sum(pageviews), 0) FROM"
                " (SELECT * FROM totals UNION ALL SELECT * FROM totals_to_post) WHERE bot = 0"
            )
            return int(pageviews)

    def disagreements(self) -> list[str]:
        """Sums that differ from table to table, and what SQLite finds wrong with the file."""
        differ = [name for name, (first, *others) in self.sums.items() if any(o != first for o in others)]
        return differ if self.sound == "ok" else [*differ, self.sound]
