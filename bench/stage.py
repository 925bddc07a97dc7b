"""Where measurements are made: servers side by side, loads taking turns, the books checked after each."""

import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import msgspec

from bench.books import Books
from bench.cores import spin_seconds
from bench.load import Load, load
from bench.requests import ID, Requests, events
from bench.servers import Server, nginx, reference, statsvc

SITE = "hue.gov.vn"
WARM_SECONDS = 1.0
VISITORS_OF_A_LOAD = 1_000_000
"""More than come in any load."""


class Stage:
    """The measurements' folder, how long each takes, and how steady the machine was."""

    def __init__(self, folder: Path, generator: str, *, quick: bool) -> None:
        self._folder = folder
        self._generator = generator
        self.quick = quick
        self.rounds = 1 if quick else 3
        self.turns = 1 if quick else 15
        """Of a server among others, each a third of a load: what disturbs the machine lasts for seconds."""
        self.seconds = 0.2 if quick else 3.0
        self.turn_seconds = self.seconds / 3
        self._warm_seconds = 0.1 if quick else WARM_SECONDS
        self.spins: list[float] = []
        self._numbers = count(1)

    def folder(self) -> Path:
        """A new one."""
        return Path(mkdtemp(dir=self._folder))

    def scale(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @contextmanager
    def service(self, store: Path | None = None, sites: Sequence[str] = (SITE,)) -> Iterator["Ours"]:
        """The service, warm: on a new store with one site, or on the one given, which has `sites`."""
        options = () if store else ("--site", SITE)
        store = store or self.folder() / "stats.db"
        with statsvc(store, *options) as server:
            ours = Ours(server, store)
            # The first one reads who was here today: where that is a million, for longer than the warm-up.
            ours.answer_bytes(events(sites=sites))
            self.load(ours, events(sites=sites), 16, self._warm_seconds)
            yield ours

    @contextmanager
    def references(self, answer_bytes: int) -> Iterator[tuple[Server, Server | None]]:
        """The emptiest aiohttp handler, and nginx where it is installed."""
        with ExitStack() as stack:
            bare = stack.enter_context(reference(answer_bytes))
            pixel = stack.enter_context(nginx(self.folder() / "nginx"))
            self.load(bare, events(sites=[SITE]), 16, self._warm_seconds)
            yield bare, pixel

    def load(
        self, server: "Server | Ours", requests: Requests, connections: int, seconds: float | None = None
    ) -> Load:
        """One load. Raises BenchError where an answer was an error, or an event was lost or counted twice."""
        number = next(self._numbers)  # two loads may run at once, and are to differ
        first_visitor = 0 if requests.visitors else number * VISITORS_OF_A_LOAD
        seconds = self.seconds if seconds is None else seconds
        computed = server.cpu_seconds()
        result = load(self._generator, server.address, requests, connections, seconds, first_visitor, number)
        cpu_us = (server.cpu_seconds() - computed) / result.answers * 1e6
        result = msgspec.structs.replace(result, cpu_us=cpu_us)
        if isinstance(server, Ours) and requests.names:
            server.check(requests, result.answers, connections)
        return result

    def spin(self) -> None:
        self.spins.append(spin_seconds())


class Ours:
    """The service and its books."""

    def __init__(self, server: Server, store: Path) -> None:
        self.server = server
        self.address = server.address
        self.cpu_seconds = server.cpu_seconds
        self.store = store
        self.books = Books(store)
        self._asked = 0

    def check(self, requests: Requests, acknowledged: int, under_way: int) -> None:
        self.books.check(acknowledged, under_way, all_pageviews=requests.names == ("pageview",))

    def answer_bytes(self, requests: Requests) -> int:
        """How large its answer to the first of `requests` is; an event among them is recorded."""
        method, path, _ = requests.heads[0].split(" ", 2)
        tail = requests.tails[0].replace(ID, f"{self._asked:0{len(ID)}}")
        self._asked += 1
        body = tail.partition("\r\n\r\n")[2].encode() if method == "POST" else None
        request = urllib.request.Request(f"http://{self.address}{path}", body)
        request.add_header("User-Agent", requests.heads[0].partition("User-Agent: ")[2].partition("\r\n")[0])
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - it is ours
            size = len(answer.read())
        if requests.names:
            self.check(requests, 1, 0)
        return size
