"""A request, as handlers are given it."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aiohttp import hdrs
from aiohttp.http import HttpVersion10, RawRequestMessage
from aiohttp.streams import StreamReader

from statsvc.errors import Refused

if TYPE_CHECKING:
    from multidict import MultiMapping  # of aiohttp's

BODY_SECONDS = 10.0
"""How long a body may take to come: an event is a few hundred bytes."""
LARGEST_BODY_BYTES = 16 * 1024
_TOO_LARGE = f"the body is larger than the {LARGEST_BODY_BYTES:,} bytes that are taken"


class Request:
    """Its head is here; its body may be on its way."""

    __slots__ = ("_came", "_stream", "closes", "headers", "method", "named", "old", "remote", "url")

    def __init__(self, message: RawRequestMessage, body: StreamReader, remote: str) -> None:
        self.method = message.method
        self.url = message.url
        self.headers = message.headers
        """In any case of their names. Bytes that are no UTF-8 are lone surrogates."""
        self.remote = remote
        """The peer's address."""
        self.old = message.version == HttpVersion10
        self.closes = message.should_close
        """The connection is to end after its answer."""
        self.named: Mapping[str, str] = {}
        """What stands at the places that its route's template names."""
        self._stream = body
        self._came: bytes | None = None
        """The body, once it has been read."""

    @property
    def query(self) -> "MultiMapping[str]":
        return self.url.query

    @property
    def path(self) -> str:
        return self.url.path

    @property
    def host(self) -> str:
        """As the client wrote it."""
        return self.headers.get(hdrs.HOST, "")

    @property
    def content_type(self) -> str:
        """Without parameters, in lower case."""
        return self.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()

    @property
    def whole(self) -> bool:
        """Whether its body is here: it came with its head, as most do."""
        return self._came is not None or self._stream.is_eof()

    @property
    def oversized(self) -> bool:
        """Whether its body is announced to be larger than is taken."""
        return int(self.headers.get(hdrs.CONTENT_LENGTH, 0)) > LARGEST_BODY_BYTES

    def body(self) -> bytes:
        """Of a request that is whole. Raises Refused where it is too large."""
        if self._came is None:
            self._came = self._stream.read_nowait()
        return _bounded(self._came)

    async def read(self) -> bytes:
        """The body. Raises Refused where it is too large or does not come."""
        if not self.whole:  # else a timeout would cost 5 µs
            self._came = await self._rest()
        return self.body()

    async def skip(self, seconds: float) -> bool:
        """Read what is left of the body, for nothing. Whether it came to its end within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while await self._stream.readany():
                    pass
        except (TimeoutError, Refused):
            return False
        return True

    async def _rest(self) -> bytes:
        if self.oversized:
            raise Refused(413, _TOO_LARGE, close=True)
        read = b""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while part := await self._stream.readany():
                    read = _bounded(read + part)
        except TimeoutError:
            raise Refused(408, f"the body did not come within {BODY_SECONDS:g} seconds", close=True) from None
        return read


def _bounded(body: bytes) -> bytes:
    if len(body) > LARGEST_BODY_BYTES:
        raise Refused(413, _TOO_LARGE)
    return body
