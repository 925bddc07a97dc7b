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
_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)

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
        lines = [f"HTTP/{version} {_status(self.status)}", _date(int(time.time()))]
        for name, value in self.headers.items():
            if not value.isprintable():
                raise ValueError(f"the header {name} would have a line break or another control character")
            lines.append(f"{name}: {value}")
        if self.more is None and self.status not in _NO_BODY:
            lines.append(f"Content-Length: {len(self.body)}")
        if close:
            lines.append("Connection: close")
        elif version == "1.0":
            lines.append("Connection: keep-alive")
        encoded = "\r\n".join(lines).encode() + common
        return encoded if head else encoded + self.body


def encode_headers(headers: _Headers) -> bytes:
    """Headers that every answer of a listener has, with the end of its head: for `Answer.encode`."""
    return "".join(f"\r\n{name}: {value}" for name, value in headers.items()).encode() + b"\r\n\r\n"


@lru_cache
def _status(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}"


@lru_cache(maxsize=4)
def _date(second: int) -> str:
    return f"Date: {formatdate(second, usegmt=True)}"
