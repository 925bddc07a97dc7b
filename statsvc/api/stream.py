"""`GET /api/stream`: a site's totals as Server-Sent Events, whenever the numbers change.

The numbers are looked at again and again, rather than followed commit by commit: so what no commit
tells is seen too, such as a visitor who is no longer current, midnight, or a new baseline. They are
encoded once for all readers of a site.
"""

import asyncio
import random
import resource
from contextlib import suppress
from functools import partial

from aiohttp import hdrs

from statsvc.announcements import Announcer, Fault
from statsvc.api.answer import Answer
from statsvc.api.reading import Reading, numbers
from statsvc.api.request import Request
from statsvc.board import Board
from statsvc.errors import Refused, StoreError, Unavailable
from statsvc.model import Moment, Site
from statsvc.ports import Clock
from statsvc.sites import Sites

MOST_READERS = 10_000
"""More are told to come back later: a reader costs memory and a file descriptor, and hits need both."""
RETRY_AFTER_SECONDS = 30
LOOK_SECONDS = 0.5
"""How soon a change is seen on a quiet site."""
LEAST_INTERVAL_SECONDS = 2
"""From one message to the next of a site, on a busy one. After a silence a second one may follow at once:
of what another node counts, current visitors may be seen before the visits are."""
KEEP_ALIVE_SECONDS = 25
"""Proxies close connections that are silent for 30 seconds or longer."""
KEEP_ALIVE = b":\n\n"
RECONNECT_MS = (3000, 9000)
"""How long a browser waits before it connects again, at random: after a restart not all come at once."""
MOST_UNSENT_BYTES = 32 * 1024
"""A reader with more than this waiting doesn't keep up, and is dropped."""
READERS_AT_ONCE = 25
"""After so many, others have their turn: hits must not wait for all the readers of a site."""

HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream; charset=utf-8",
    hdrs.CACHE_CONTROL: "no-store, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold messages back until there are 4 KiB of them
}


class _Reader:
    """One open stream. `ended` is set when it should be closed."""

    __slots__ = ("_transport", "ended")

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.ended = asyncio.Event()
        self._transport = transport

    def send(self, message: bytes) -> None:
        """Never waits: who has left is let go, and who doesn't keep up is dropped."""
        if self.gone:
            self.ended.set()
        elif self._transport.get_write_buffer_size() > MOST_UNSENT_BYTES:
            self._transport.abort()
            self.ended.set()
        else:
            self._transport.write(message)

    @property
    def gone(self) -> bool:
        return self._transport.is_closing()


class _Channel:
    """The readers of one site, and what they were last told."""

    __slots__ = ("busy_until_ms", "numbers", "readers", "sent_ms")

    def __init__(self) -> None:
        self.readers: set[_Reader] = set()
        self.numbers = b""
        self.sent_ms = 0
        self.busy_until_ms = 0
        """When as many messages as were sent have had their interval."""

    def sent(self, numbers: bytes, now: Moment) -> None:
        self.numbers, self.sent_ms = numbers, now.steady_ms
        self.busy_until_ms = max(self.busy_until_ms, now.steady_ms) + LEAST_INTERVAL_SECONDS * 1000


class Streams:
    def __init__(
        self,
        reading: Reading,
        sites: Sites,
        board: Board,
        clock: Clock,
        announce: Announcer,
        stopping: asyncio.Event,
    ) -> None:
        self._reading = reading
        self._sites = sites
        self._board = board
        self._clock = clock
        self._announce = announce
        self._stopping = stopping
        self._channels: dict[int, _Channel] = {}
        self.readers = 0
        """Open streams, of all sites."""
        self._room = _room()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="streams")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._end_all()

    async def get(self, request: Request) -> Answer:
        """The totals now, and whenever they change, until the reader leaves or the service stops."""
        site = self._reading.named(request)
        if not site.public:
            # A browser's EventSource can't send a token.
            raise Refused(
                403, f"{site.domain} is private, and has no stream; with a token, /api/totals has its numbers"
            )
        if self._stopping.is_set():
            raise Unavailable("the service is stopping", RETRY_AFTER_SECONDS)
        if self.readers >= self._room:
            raise Unavailable(f"there are {self.readers:,} readers of streams already", RETRY_AFTER_SECONDS)
        now = self._clock.now()
        totals = await self._board.answer(site, {}, now)
        first = b"retry: %d\n" % _reconnect_ms() + _message(totals)
        return Answer(200, first, HEADERS, more=partial(self._go_on, site, numbers(totals, now.wall_ms), now))

    async def _go_on(
        self, site: Site, told: bytes, told_at: Moment, transport: asyncio.WriteTransport
    ) -> None:
        """Until the reader leaves or the service stops. The reader was `told` these numbers."""
        reader = _Reader(transport)
        channel = self._channels.setdefault(site.id, _Channel())
        if not channel.readers:
            channel.sent(told, told_at)
        channel.readers.add(reader)
        self.readers += 1
        try:
            await reader.ended.wait()
        finally:
            self.readers -= 1
            channel.readers.discard(reader)
            if not channel.readers and self._channels.get(site.id) is channel:
                del self._channels[site.id]

    async def look(self) -> None:
        """Tell the readers of each site whose numbers have changed, if it is time to."""
        if not self._channels:
            return
        # While a batch commits, its visitors are current already, and its visits not yet counted.
        async with self._board.between_commits:
            pass
        due = []
        sites = {site.id: site for site in self._sites if site.public}
        for site_id, channel in list(self._channels.items()):
            site = sites.get(site_id)
            if site is None:
                self._end(channel)  # they come back, and are told why
                continue
            for reader in channel.readers:
                if reader.gone:
                    reader.ended.set()
            message = await self._due(site, channel, self._clock.now())
            if message:
                due.append((channel, message))
        for channel, message in due:
            await self._broadcast(channel, message)

    async def _due(self, site: Site, channel: _Channel, now: Moment) -> bytes:
        """What the site's readers are to be sent now, if anything."""
        if channel.busy_until_ms - now.steady_ms > LEAST_INTERVAL_SECONDS * 1000:
            return b""
        try:
            totals = await self._board.answer(site, {}, now)
        except StoreError:
            totals = b""  # the last numbers stay; that the store fails is told elsewhere
        new = numbers(totals, now.wall_ms)
        if totals and new != channel.numbers:
            channel.sent(new, now)
            return _message(totals)
        if now.steady_ms - channel.sent_ms >= KEEP_ALIVE_SECONDS * 1000:
            channel.sent_ms = now.steady_ms
            return KEEP_ALIVE
        return b""

    async def _broadcast(self, channel: _Channel, message: bytes) -> None:
        for place, reader in enumerate(tuple(channel.readers), 1):
            reader.send(message)
            if place % READERS_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                await self.look()
            except Exception as exc:  # noqa: BLE001 - the next look may do better, whatever it was
                self._announce(Fault.of("streams", exc))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), LOOK_SECONDS)
        self._end_all()

    def _end_all(self) -> None:
        for channel in self._channels.values():
            self._end(channel)

    def _end(self, channel: _Channel) -> None:
        for reader in channel.readers:
            reader.ended.set()


def _reconnect_ms() -> int:
    return random.randint(*RECONNECT_MS)  # noqa: S311 - no secret


def _room() -> int:
    """How many readers may be here: half of the file descriptors stay free for hits."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_READERS if open_files == resource.RLIM_INFINITY else min(MOST_READERS, open_files // 2)


def _message(totals: bytes) -> bytes:
    return b"data: " + totals + b"\n\n"
