"""An answer, and how it is written: its head and its body in one piece."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import hdrs

JSON: dict[str, str] = {hdrs.CONTENT_TYPE: "application/json"}
HTML: dict[str, str] = {hdrs.CONTENT_TYPE: "text/html; charset=utf-8"}
_NO_BODY = {int(HTTPStatus.NO_CONTENT), int(HTTPStatus.NOT_MODIFIED)}

More = Callable[[asyncio.WriteTransport], Awaitable[None]]
_Headers = Mapping[str, str]


class Answer:
    """What a handler returns.

    With `more` it has no length: `more` is awaited after `body` has been written, writes what follows, and
    the connection is closed when it returns. With `close` it is the last one on its connection.
    """

    __slots__ = ("body", "close", "headers", "more", "status")

    def __init__(
        self,
        status: int,
        body: bytes = b"",
        headers: _Headers = JSON,
        *,
        close: bool = False,
        more: More | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.close = close or more is not None
        self.more = more

    def encode(
        self, common: bytes, *, version: str = "1.1", close: bool = False, head: bool = False
    ) -> bytes:
        """As it goes over the wire. `common` are encoded headers; `head` leaves out the body."""
        parts = [_start(version, self.status, int(time.time())), _lines(tuple(self.headers.items()))]
        if self.more is None and self.status not in _NO_BODY:
            parts.append(b"\r\nContent-Length: %d" % len(self.body))
        if close:
            parts.append(b"\r\nConnection: close")
        elif version == "1.0":
            parts.append(b"\r\nConnection: keep-alive")
        parts.append(common)
        if not head:
            parts.append(self.body)
        return b"".join(parts)


def encode_headers(headers: _Headers) -> bytes:
    """Headers that every answer of a listener has, with the end of its head: for `Answer.encode`."""
    return _lines(tuple(headers.items())) + b"\r\n\r\n"


@lru_cache
def _start(version: str, status: int, second: int) -> bytes:
    date = formatdate(second, usegmt=True)
    return f"HTTP/{version} {status} {HTTPStatus(status).phrase}\r\nDate: {date}".encode()


@lru_cache(maxsize=1024)  # most answers have one of a few sets
def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    for name, value in headers:
        if not value.isprintable():
            raise ValueError(f"the header {name} would have a line break or another control character")
    return "".join(f"\r\n{name}: {value}" for name, value in headers).encode()
