"""What the connections of a listener have in common: who answers, how many they may be, who is refused."""

import asyncio
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from heapq import nsmallest
from http import HTTPStatus
from math import inf
from typing import Protocol

import orjson
from aiohttp import hdrs

from statsvc.announcements import Announcer, Cut, CutReason
from statsvc.api.answer import encode_headers
from statsvc.api.dispatch import Dispatch

HEAD_SECONDS = 10.0
"""How long a request's head may take to come, from its first byte; and the first byte of a new connection."""
MOST_UNANSWERED_BYTES = 64 * 1024
"""A head, a body, and whatever is sent behind them before the answer."""
TOO_MUCH = f"more than the {MOST_UNANSWERED_BYTES:,} bytes that are taken before an answer"
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
    CutReason.LARGE: (413, TOO_MUCH),
}


class Guest(Protocol):
    """A connection."""

    @property
    def idle(self) -> bool:
        """Whether it has no request to answer."""

    def heard(self) -> float:
        """When it last sent something, or was opened."""

    def close(self) -> None: ...

    def give_up(self) -> None:
        """Close without the answer under way."""


class Door:
    """Without limits it is for operators."""

    def __init__(
        self,
        dispatch: Dispatch,
        announce: Announcer,
        headers: Mapping[str, str],
        draining: asyncio.Event,
        *,
        most_connections: float = inf,
        requests_at_once: float = inf,
        unanswered_bytes: float = inf,
        streams: Callable[[], int] = lambda: 0,
    ) -> None:
        """`headers` are those of every answer."""
        self.answer, self.join = dispatch.answer, dispatch.join
        self.announce = announce
        self.headers = encode_headers(headers)
        self.refusals = {
            reason: (status, _refusal(status, sentence, self.headers))
            for reason, (status, sentence) in REFUSALS.items()
        }
        self.draining = draining
        """Then each answer is the last one on its connection."""
        self.unanswered_bytes = unanswered_bytes
        self._most_connections = most_connections
        self._requests_at_once = requests_at_once
        self._open: set[Guest] = set()
        self._streams = streams
        self._answering: set[Guest] = set()
        self._all_answered = asyncio.Event()
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

    def enter(self, connection: Guest) -> None:
        self._open.add(connection)

    def leave(self, connection: Guest) -> None:
        self._open.discard(connection)

    @property
    def requests(self) -> int:
        """Begun and not answered, without streams."""
        return len(self._answering) - self._streams()

    def busy(self) -> bool:
        return len(self._answering) >= self._requests_at_once and self.requests >= self._requests_at_once

    def begin(self, answering: Guest) -> None:
        self._answering.add(answering)

    def end(self, answering: Guest) -> None:
        self._answering.discard(answering)
        if not self._answering:
            self._all_answered.set()

    async def close(self, seconds: float) -> None:
        """Close all connections: idle ones now, others when they are answered, or `seconds` are over."""
        self.close_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._until_answered()
        for late in list(self._answering):
            late.give_up()
        await self._until_answered()
        for connection in list(self._open):
            connection.close()

    async def _until_answered(self) -> None:
        self._all_answered.clear()
        if self._answering:
            await self._all_answered.wait()

    def close_idle(self) -> None:
        """Close those that have no request here."""
        for connection in [connection for connection in self._open if connection.idle]:
            connection.close()

    def _has_room(self) -> bool:
        """If need be that of those who have been silent for longest."""
        return len(self._open) < self._most_connections or self._make_room(asyncio.get_running_loop().time())

    def _make_room(self, now: float) -> bool:
        if now < self._full_until:
            return False
        idle = [connection for connection in self._open if connection.idle]
        if not idle:
            self._full_until = now + NO_ROOM_SECONDS
        for connection in nsmallest(
            max(1, int(len(self._open) * ROOM_MADE)), idle, key=lambda idle: idle.heard()
        ):
            connection.close()
            self.leave(connection)
            self.announce(Cut(CutReason.IDLE, None))
        return bool(idle)


def _refusal(status: int, sentence: str, common: bytes) -> bytes:
    """A whole answer, after which the connection is closed."""
    body = orjson.dumps({"error": sentence})
    own: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json", hdrs.CONNECTION: "close"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        own[hdrs.RETRY_AFTER] = str(RETRY_AFTER_SECONDS)
    own[hdrs.CONTENT_LENGTH] = str(len(body))
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in own.items()]
    return "\r\n".join(lines).encode() + common + body
