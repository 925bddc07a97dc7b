"""`GET /api/stream`, read as a browser's EventSource reads it."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientTimeout

from statsvc.announcements import Announcer, Fault
from statsvc.api import stream
from statsvc.api.dispatch import Dispatch
from statsvc.api.door import Door
from statsvc.api.listener import Listener
from statsvc.api.reading import Reading
from statsvc.api.stream import KEEP_ALIVE_SECONDS, LEAST_INTERVAL_SECONDS, RECONNECT_MS, Streams
from statsvc.board import Board
from statsvc.config import Address
from statsvc.errors import StoreError
from statsvc.model import Moment, Site
from statsvc.presence.memory import MemoryPresence
from statsvc.sites import Sites
from tests.conftest import App
from tests.facts import FakeClock
from tests.process import Service, command

A_WHILE = 5.0


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams look for changes all the time; when something is due, the clock that is set says."""
    monkeypatch.setattr(stream, "LOOK_SECONDS", 0.005)


class Stream:
    """An open stream: its messages, one by one."""

    def __init__(self, response: Any) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._lines = response.content

    async def message(self) -> dict[str, str]:
        """The next message, by field; a comment is the field ''."""
        fields = {}
        async with asyncio.timeout(A_WHILE):
            while (line := (await self._lines.readline()).decode()) not in {"\n", ""}:
                name, _, value = line.rstrip("\n").partition(":")
                fields[name] = value.strip()
        return fields

    async def totals(self) -> dict[str, Any]:
        return json.loads((await self.message())["data"])

    async def ended(self) -> bool:
        async with asyncio.timeout(A_WHILE):
            return await self._lines.read() == b""


@asynccontextmanager
async def reading(app: Any, site: str = "hue.gov.vn") -> AsyncIterator[Stream]:
    async with app.session.get(f"{app.public}/api/stream?site={site}") as response:
        assert response.status == 200, await response.text()
        yield Stream(response)


async def test_the_totals_come_at_once(app):
    """The first message has the numbers as /api/totals has them, and a time to wait before reconnecting."""
    await app.view("/")
    async with reading(app) as stream:
        first = await stream.message()
        assert json.loads(first["data"]) == await app.totals()
        assert RECONNECT_MS[0] <= int(first["retry"]) <= RECONNECT_MS[1]
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["Access-Control-Allow-Origin"] == "*"
        assert "no-store" in stream.headers["Cache-Control"]
        assert stream.headers["X-Accel-Buffering"] == "no"


async def test_reconnect_times_differ(app):
    """After a restart, readers don't come back all at once."""
    times = set()
    for _ in range(8):
        async with reading(app) as stream:
            times.add((await stream.message())["retry"])
    assert len(times) > 1


async def test_a_change_is_sent_to_every_reader(app, clock):
    """What one visitor does, all boxes show."""
    async with reading(app) as one, reading(app) as other:
        for each in (one, other):
            assert (await each.totals())["visits"]["total"] == 0
        clock.advance(LEAST_INTERVAL_SECONDS)
        await app.view("/")
        for each in (one, other):
            totals = await each.totals()
            assert (totals["visits"]["total"], totals["current"]["visitors"]) == (1, 1)


async def test_a_busy_site_is_told_in_steps(app, clock):
    """Within two seconds there is one message, with all that happened; after a silence a second one at once."""
    async with reading(app) as stream:
        await stream.message()
        await app.view("/", 0)
        assert (await stream.totals())["visits"]["total"] == 1
        for visitor in range(1, 5):
            await app.view("/", visitor)
        clock.advance(LEAST_INTERVAL_SECONDS)
        assert (await stream.totals())["visits"]["total"] == 5
        for visitor in range(5, 8):
            await app.view("/", visitor)
        clock.advance(LEAST_INTERVAL_SECONDS)
        assert (await stream.totals())["visits"]["total"] == 8


async def test_visitors_who_leave_are_a_change(app, clock):
    """Nobody calls, and still the current visitors go down when their time is over."""
    await app.view("/")
    async with reading(app) as stream:
        assert (await stream.totals())["current"]["visitors"] == 1
        clock.advance(300)
        assert (await stream.totals())["current"]["visitors"] == 0


async def test_a_quiet_stream_is_kept_alive(app, clock):
    """Time alone is no change: there comes a comment, for proxies, and no numbers."""
    async with reading(app) as stream:
        await stream.message()
        for _ in range(3):
            clock.advance(KEEP_ALIVE_SECONDS)
            assert await stream.message() == {"": ""}


async def test_sites_are_streams_of_their_own(start, clock):
    """Readers of one site hear nothing of another."""
    async with start(sites="hue.gov.vn,b.vn") as app, reading(app) as hue, reading(app, "b.vn") as other:
        for each in (hue, other):
            await each.message()
        clock.advance(LEAST_INTERVAL_SECONDS)
        await app.view("/", site="b.vn")
        assert (await other.totals())["site"] == "b.vn"
        clock.advance(KEEP_ALIVE_SECONDS)
        assert await hue.message() == {"": ""}


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [("", 400, "site: is required"), ("?site=x.vn", 404, "x.vn"), ("?site=secret.vn", 403, "private")],
)
async def test_bad_questions_get_a_sentence(start, tmp_path: Path, query, status, said):
    """As JSON, with a status, and not as a stream."""
    await asyncio.to_thread(command, tmp_path / "stats.db", "site", "add", "secret.vn", "--no-public")
    async with start() as app, app.session.get(f"{app.public}/api/stream{query}") as response:
        assert response.status == status
        assert said in (await response.json())["error"]


async def test_a_site_made_private_ends_its_streams(app, tmp_path: Path):
    """Who comes back is told why."""
    async with reading(app) as stream:
        await stream.message()
        store = tmp_path / "stats.db"
        await asyncio.to_thread(command, store, "site", "set", "hue.gov.vn", "--no-public")
        assert await stream.ended()
    async with app.session.get(f"{app.public}/api/stream?site=hue.gov.vn") as response:
        assert response.status == 403


async def test_there_is_room_for_so_many_readers(start, monkeypatch):
    """One more is told to come back later; when one has left, there is room again."""
    monkeypatch.setattr(stream, "MOST_READERS", 2)
    async with start() as app, reading(app) as stay:
        await stay.message()
        async with reading(app) as leaves:
            await leaves.message()
            async with app.session.get(f"{app.public}/api/stream?site=hue.gov.vn") as response:
                assert response.status == 503
                assert int(response.headers["Retry-After"]) > 0
        async with asyncio.timeout(A_WHILE):
            while True:
                async with app.session.get(f"{app.public}/api/stream?site=hue.gov.vn") as response:
                    if response.status == 200:
                        break


class Scoreboard(Board):
    """Its numbers change whenever they are asked for; or the store fails, or something is wrong here."""

    error: Exception | None = None
    asked = 0

    async def answer(self, site: Site, paths: Mapping[str, str], now: Moment) -> bytes:
        if self.error is not None:
            raise self.error
        self.asked += 1
        return json.dumps({"number": self.asked, "filling": "x" * 1000}).encode()


class Listening:
    """Streams over a scoreboard, looked at by hand."""

    def __init__(self, registry: Any, store: Any, clock: FakeClock) -> None:
        self.clock = clock
        self.heard: list[Any] = []
        self.sites = Sites(registry)
        self.board = Scoreboard(store, MemoryPresence(store))
        announce = Announcer([self])
        self.streams = Streams(
            Reading(self.sites, registry), self.sites, self.board, clock, announce, asyncio.Event()
        )

    def notice(self, announcement: Any) -> None:
        self.heard.append(announcement)

    async def look(self) -> None:
        self.clock.advance(LEAST_INTERVAL_SECONDS)
        await self.streams.look()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[App]:
        announce = Announcer([self])
        routes = Dispatch({"/api/stream": {"GET": self.streams.get}}, announce, lambda *_: None)
        listener = Listener(Door(routes, announce, {}, asyncio.Event()))
        at = await listener.open(Address("127.0.0.1", 0))
        try:
            async with ClientSession() as session:
                yield App(session, str(at), "")
        finally:
            await self.streams.stop()
            await listener.close()


@pytest.fixture
async def listening(registry, store, clock) -> Listening:
    await registry.add(Site(id=0, domain="hue.gov.vn"), 0)
    listening = Listening(registry, store, clock)
    await listening.sites.load()
    return listening


def address(app: App) -> tuple[str, int]:
    host, _, port = app.public.removeprefix("http://").partition(":")
    return host, int(port)


REQUEST = b"GET /api/stream?site=hue.gov.vn HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_numbers_are_asked_for_once_for_all_readers(listening):
    """However many readers there are, the totals are made once; and nobody reads, nobody asks."""
    async with listening.served() as app, AsyncExitStack() as stack:
        await listening.look()
        assert listening.board.asked == 0
        readers = [await stack.enter_async_context(reading(app)) for _ in range(20)]
        for reader in readers:
            await reader.message()
        before = listening.board.asked
        await listening.look()
        assert listening.board.asked == before + 1
        assert {(await reader.totals())["number"] for reader in readers} == {before + 1}


async def test_a_reader_who_does_not_keep_up_is_dropped(listening, monkeypatch):
    """Its connection is closed when much waits for it; a reader who keeps up gets every message."""
    monkeypatch.setattr(stream, "MOST_UNSENT_BYTES", 4096)
    async with listening.served() as app, AsyncExitStack() as stack:
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            slow.connect(address(app))
            slow.sendall(REQUEST)
            async with asyncio.timeout(A_WHILE):
                while not listening.streams.readers:
                    await asyncio.sleep(0)
            good = await stack.enter_async_context(reading(app))
            await good.message()
            async with asyncio.timeout(4 * A_WHILE):
                while listening.streams.readers > 1:
                    await listening.look()
                    await good.message()
            slow.settimeout(A_WHILE)
            while slow.recv(65536):
                pass
        assert listening.streams.readers == 1


async def test_who_leaves_is_forgotten(listening):
    """A closed connection frees its place at the next look, without a message to find out by."""
    async with listening.served() as app:
        _, writer = await asyncio.open_connection(*address(app))
        writer.write(REQUEST)
        async with asyncio.timeout(A_WHILE):
            while not listening.streams.readers:
                await asyncio.sleep(0)
            writer.close()
            await writer.wait_closed()
            while listening.streams.readers:
                await listening.streams.look()
                await asyncio.sleep(0)


async def test_a_store_that_fails_leaves_the_last_numbers(listening):
    """Readers stay, and hear keep-alives, until there are numbers again; a new one is told 503."""
    async with listening.served() as app, reading(app) as reader:
        await reader.message()
        listening.board.error = StoreError("no")
        listening.clock.advance(KEEP_ALIVE_SECONDS)
        await listening.look()
        assert await reader.message() == {"": ""}
        listening.board.error = None
        await listening.look()
        assert (await reader.totals())["number"] == 2


async def test_a_fault_is_announced_and_ends_nothing(listening):
    """The next look is tried all the same."""
    async with listening.served() as app, reading(app) as reader:
        await reader.message()
        listening.board.error = ZeroDivisionError("bad")
        listening.clock.advance(LEAST_INTERVAL_SECONDS)
        listening.streams.start()
        async with asyncio.timeout(A_WHILE):
            while not listening.heard:
                await asyncio.sleep(0)
        assert isinstance(listening.heard[0], Fault)
        listening.board.error = None
        assert (await reader.totals())["number"] == 2


def test_a_stop_ends_streams_at_once(tmp_path: Path):
    """SIGTERM with readers connected: each stream ends properly, and the service exits with 0 without delay."""

    async def readers(public: str, service: Service) -> float:
        timeout = ClientTimeout(total=A_WHILE)
        async with ClientSession(timeout=timeout) as session:
            app = App(session, public, "")
            async with AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(reading(app)) for _ in range(20)]
                for each in streams:
                    await each.message()
                began = time.monotonic()
                service.process.terminate()
                assert all([await each.ended() for each in streams])
                return began

    with Service(tmp_path / "stats.db", "--site", "hue.gov.vn") as service:
        began = asyncio.run(readers(service.public, service))
        assert service.process.wait(A_WHILE) == 0
        assert time.monotonic() - began < 2


def test_the_service_may_open_many_files(tmp_path: Path):
    """It raises its own limit, so that readers of streams and hits have room under the usual 1,024."""
    with Service(tmp_path / "stats.db") as service:
        text = Path(f"/proc/{service.process.pid}/limits").read_text()
        soft, hard = re.search(r"Max open files\s+(\d+)\s+(\d+)", text).groups()  # type: ignore[union-attr]
        assert int(soft) == min(int(hard), 65_536)
