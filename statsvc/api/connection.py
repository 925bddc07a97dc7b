"""What a connection may do before, and beneath, HTTP: how much it may send, how long it may take.

aiohttp reads requests; it bounds neither how long a request's head may take, nor how much may come before
an answer, nor how many connections there are. What is refused here is refused unread, so for little.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from heapq import nsmallest
from http import HTTPStatus
from math import inf
from typing import Any

import orjson
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from statsvc.announcements import Announcer, Cut, CutReason
from statsvc.api.http import json_error

HEAD_SECONDS = 10.0
"""How long a request's head may take to come, from its first byte; and the first byte of a new connection."""
UNREAD_SECONDS = 30.0
"""A client that acknowledges, or takes, nothing of its answer for so long is gone. Kept by the kernel."""
LINGER_SECONDS = 2.0
"""How long who has sent too much is still read from, for nothing: closing at once could lose the answer."""
MOST_UNANSWERED_BYTES = 64 * 1024
"""A head, a body, and whatever is sent behind them before the answer."""
REQUESTS_AT_ONCE = 2_000
"""Begun and not answered, without streams: how many others an event waits for, at most, before its answer."""
RETRY_AFTER_SECONDS = 5
ROOM_MADE = 0.01
"""This part of all connections is closed at once where there is no room: looking for them costs a little."""
NO_ROOM_SECONDS = 0.1
"""So long no room is looked for again where all connections were busy."""


REFUSALS = {
    CutReason.BUSY: (503, "more requests arrive than can be answered"),
    CutReason.FULL: (503, "there are too many connections"),
    CutReason.SLOW: (408, f"the request's head did not come within {HEAD_SECONDS:g} seconds"),
    CutReason.LARGE: (413, f"more than the {MOST_UNANSWERED_BYTES:,} bytes that are taken before an answer"),
}


def _refusal(status: int, sentence: str, headers: Mapping[str, str]) -> bytes:
    """A whole answer, after which the connection is closed."""
    body = orjson.dumps({"error": sentence})
    own: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json", hdrs.CONNECTION: "close"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        own[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
    own[hdrs.CONTENT_LENGTH] = str(len(body))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in {**headers, **own}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Door:
    """What the connections of a listener have in common. Without limits it is for operators."""

    def __init__(
        self,
        announce: Announcer,
        headers: Mapping[str, str],
        *,
        most_connections: float = inf,
        requests_at_once: float = inf,
        unanswered_bytes: float = inf,
        streams: Callable[[], int] = lambda: 0,
    ) -> None:
        self.announce = announce
        self.headers = headers
        """Of every answer of the listener."""
        self.refusals = {
            reason: (status, _refusal(status, sentence, headers))
            for reason, (status, sentence) in REFUSALS.items()
        }
        self.unanswered_bytes = unanswered_bytes
        self._most_connections = most_connections
        self._requests_at_once = requests_at_once
        self._open: set[Connection] = set()
        self._streams = streams
        self._answering = 0
        self._full_until = -inf

    @property
    def connections(self) -> int:
        return len(self._open)

    def turned_away(self, peer: socket.socket) -> bool:
        """Whether a new connection was answered and closed, for a tenth of what it costs to let it in."""
        reason = CutReason.BUSY if self.busy() else CutReason.FULL
        if reason is CutReason.FULL and self._has_room():
            return False
        status, answer = self.refusals[reason]
        with suppress(OSError):
            try:
                peer.recv(MOST_UNANSWERED_BYTES)  # what is left unread would take the answer with it
            except BlockingIOError:
                if reason is CutReason.BUSY:
                    return False  # it has no request yet
            peer.send(answer)
        peer.close()
        self.announce(Cut(reason, status))
        return True

    def enter(self, connection: "Connection") -> None:
        self._open.add(connection)

    def leave(self, connection: "Connection") -> None:
        self._open.discard(connection)

    @property
    def requests(self) -> int:
        """Begun and not answered, without streams."""
        return self._answering - self._streams()

    def busy(self) -> bool:
        return self.requests >= self._requests_at_once

    def begin(self) -> None:
        self._answering += 1

    def end(self) -> None:
        self._answering -= 1

    def _has_room(self) -> bool:
        """If need be that of those who have been silent for longest."""
        return len(self._open) < self._most_connections or self._make_room(asyncio.get_running_loop().time())

    def _make_room(self, now: float) -> bool:
        if now < self._full_until:
            return False
        idle = [connection for connection in self._open if connection.idle]
        if not idle:
            self._full_until = now + NO_ROOM_SECONDS
        for connection in nsmallest(max(1, int(len(self._open) * ROOM_MADE)), idle, key=Connection.heard):
            connection.force_close()
            self.leave(connection)
            self.announce(Cut(CutReason.IDLE, None))
        return bool(idle)


class Connection(web.RequestHandler):
    """aiohttp's connection, with limits. It is idle where it has no whole request to answer."""

    __slots__ = ("_answering", "_deaf", "_door", "_heard", "_late", "_unanswered")

    def __init__(
        self, server: web.Server, door: Door, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(server, loop=loop, **options)
        self._door = door
        self._unanswered = 0
        self._heard = loop.time()
        self._late: asyncio.TimerHandle | None = None
        self._answering = False
        self._deaf = False

    @property
    def idle(self) -> bool:
        return not self._answering

    def heard(self) -> float:
        """When it last sent something, or was opened."""
        return self._heard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._door.enter(self)
        _end_when_unread(transport)
        self._late = self._loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self)
        self._in_time()
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        idle = self.idle
        if idle:
            self._heard = self._loop.time()
            if self._door.busy():
                self._refuse(CutReason.BUSY)
                return
        self._unanswered += len(data)
        if self._unanswered > self._door.unanswered_bytes:
            self._take_no_more(answer=idle)
            return
        super().data_received(data)
        if idle and self._messages:
            self._answering = True
            self._door.begin()
            self._in_time()
        elif idle and (self._late is None or self._unanswered == len(data)):
            self._in_time()
            self._late = self._loop.call_later(HEAD_SECONDS, self._head_is_late)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            if not self._messages:  # else what was sent behind it has its turn now
                self._end()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what aiohttp can't read: it doesn't come before any route."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        too_long = isinstance(exc, LineTooLong)
        said = (message or "it can't be read").strip().partition(":")[0].rstrip(".")
        response = json_error(431 if too_long else 400, f"this is not a request: {said}", self._door.headers)
        response.force_close()
        self._door.announce(Cut(CutReason.LARGE if too_long else CutReason.NOT_HTTP, response.status))
        return response

    def _end(self) -> None:
        if self._answering:
            self._answering = False
            self._unanswered = 0
            self._door.end()

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        if not self.idle:
            return
        if self._unanswered:
            self._refuse(CutReason.SLOW)
        else:
            self.force_close()  # browsers open connections that they then don't need

    def _refuse(self, reason: CutReason) -> None:
        """Answer unread, and close."""
        status, answer = self._door.refusals[reason]
        assert self.transport is not None
        self.transport.write(answer)
        self.force_close()
        self._door.announce(Cut(reason, status))

    def _take_no_more(self, *, answer: bool) -> None:
        """Close soon. `answer`: nothing else is being answered."""
        self._deaf = True
        self._in_time()
        status, text = self._door.refusals[CutReason.LARGE]
        if answer and self.transport is not None:
            self.transport.write(text)
            self.transport.write_eof()
        self._late = self._loop.call_later(LINGER_SECONDS, self.force_close)
        self._door.announce(Cut(CutReason.LARGE, status if answer else None))


def _end_when_unread(transport: asyncio.BaseTransport) -> None:
    """Have the kernel end the connection where nothing of an answer is taken, even one being closed."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    peer = transport.get_extra_info("socket")
    if option is not None and peer is not None:
        peer.setsockopt(socket.IPPROTO_TCP, option, int(UNREAD_SECONDS * 1000))
