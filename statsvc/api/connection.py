"""A connection: aiohttp's parser reads its requests, and they are answered one after the other.

What it may do before, and beneath, HTTP is bounded here: how much it may send, how long it may take. What is
refused here is refused unread, so for little.
"""

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING, cast

from aiohttp import hdrs
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpProcessingError, HttpRequestParser, HttpVersion10, HttpVersion11
from aiohttp.http_exceptions import LineTooLong

from statsvc.announcements import Cut, CutReason, Fault
from statsvc.api.answer import Answer
from statsvc.api.door import HEAD_SECONDS, MOST_UNANSWERED_BYTES, TOO_MUCH, Door
from statsvc.api.http import json_error
from statsvc.api.request import Request
from statsvc.errors import Refused

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

KEEPALIVE_SECONDS = 75.0
"""Longer than proxies keep an idle connection: they must be the ones to close it."""
LONGEST_LINE_BYTES = 32 * 1024
"""A hundred paths in other scripts than Latin are ten kilobytes of query."""
LINGER_SECONDS = 2.0
"""How long what nobody wants is read, for nothing, after an answer: closing at once could lose the answer."""
SPOKEN = (HttpVersion11, HttpVersion10)
MOST_WAITING = 32
"""Requests that are read ahead, while one is answered."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(BaseProtocol):
    """Implements `door.Guest`."""

    __slots__ = (
        *(
            "_behind",
            "_body",
            "_deaf",
            "_door",
            "_due",
            "_endless",
            "_greedy",
            "_heard",
            "_joined",
            "_last",
            "_remote",
            "_requests",
            "_task",
            "_timer",
        ),
        *("_unanswered", "_unreadable", "idle"),
    )

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop, remote: str) -> None:
        """`remote` is the peer's address."""
        parser = HttpRequestParser(
            self,
            loop,
            MOST_UNANSWERED_BYTES,
            max_line_size=LONGEST_LINE_BYTES,
            # Nobody compresses a few hundred bytes; unpacking what a stranger sends costs seconds.
            auto_decompress=False,
            max_msg_queue_size=MOST_WAITING,
        )
        super().__init__(loop, parser)
        self._door = door
        self._remote = remote
        self._requests: deque[Request] = deque()
        self._body: StreamReader | None = None
        """Of the request that was read last."""
        self._unreadable: HttpProcessingError | None = None
        self.idle = True
        self._task: asyncio.Task[None] | None = None
        """Answers what is here."""
        self._joined: Request | None = None
        """A request that is answered with others'."""
        self._unanswered = 0
        """Bytes."""
        self._behind = False
        """More has come than is read ahead."""
        self._last = False
        """No request comes behind those that are here."""
        self._deaf = False
        """What comes is not read."""
        self._endless = False
        """What is being answered has no end, as a stream."""
        self._greedy = False
        """More came than is taken: it is closed a little later."""
        self._heard = loop.time()
        self._due = inf
        self._timer: asyncio.TimerHandle | None = None

    def heard(self) -> float:
        return self._heard

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self._end(go_on=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # its options are those of the listening socket
        self._door.enter(self)
        self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        self._requests.clear()
        self._last = True
        self._break_body(ConnectionResetError("the client has left"))
        super().connection_lost(exc)
        self._parser = None  # they refer to each other

    def eof_received(self) -> bool:
        """The client sends no more, and may wait for answers: whether the connection stays open for them."""
        if self.idle or self._endless:
            return False
        self._last = True
        self._break_body(ConnectionResetError("the client has left"))
        return True

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:  # aiohttp asks for it at the end of every body
            super().resume_reading(resume_parser)

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
        self._read(data)
        if not idle:
            return
        if self._requests or self._unreadable is not None:
            self._begin()
        elif self._unanswered == len(data):
            self._wait(HEAD_SECONDS)

    def _read(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            requests, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as exc:
            self._deaf = self._last = True
            if not self._break_body(_refusal(exc)):
                self._unreadable = exc
            return
        for message, body in requests:
            if message.version not in SPOKEN:
                spoken = "HTTP/{}.{} is not spoken here".format(*message.version)
                self._unreadable = HttpProcessingError(code=400, message=spoken)
                self._deaf = self._last = True
                break
            self._requests.append(Request(message, body, self._remote))
            self._body = body
            # To a protocol that is not spoken here: it is answered as if it had not asked. What comes behind
            # it may be in that protocol.
            if upgraded or hdrs.UPGRADE in message.headers:
                self._deaf = self._last = True
        self._behind = len(self._requests) >= MOST_WAITING

    def _break_body(self, exc: Exception) -> bool:
        """Let who reads the body that is on its way know why it will not come. Whether there is one."""
        if self._body is None or self._body.is_eof():
            return False
        self._body.set_exception(exc)
        return True

    def _begin(self) -> None:
        """Answer what is here: one request, as most often it is, together with others' if it can be."""
        self.idle = False
        self._door.begin(self)
        if len(self._requests) == 1 and self._door.join(self._requests[0], self._answer_joined):
            self._joined = self._next()
            return
        self._task = self._loop.create_task(self._answer_all())

    def _next(self) -> Request:
        if self._parser is not None:
            self._parser.message_consumed()
        return self._requests.popleft()

    def _answer_joined(self, answer: Answer) -> None:
        assert self._joined is not None
        request, self._joined = self._joined, None
        go_on = False
        try:
            go_on = self._send(request, answer)
        except ConnectionError:
            pass  # who has left is nobody's problem
        except Exception as exc:  # noqa: BLE001 - a fault in one connection is not that of others
            self._door.announce(Fault.of("connection", exc))
        if go_on and (self._requests or self._paused or self._unreadable is not None):
            self._task = self._loop.create_task(self._answer_all())
        else:
            self._end(go_on)

    async def _answer_all(self) -> None:
        """Answer what is here and what comes meanwhile, in order."""
        go_on = False
        try:
            go_on = await self._answer_in_order()
        except ConnectionError:
            pass
        except Exception as exc:  # noqa: BLE001 - as above
            self._door.announce(Fault.of("connection", exc))
        finally:
            self._task = None
            self._end(go_on)

    async def _answer_in_order(self) -> bool:
        """Whether another request may follow."""
        if self._paused:
            await self._drain_helper()
        while self._requests:
            if not await self._answer(self._next()):
                return False
            if self._behind and not self._requests and not self._last:
                self._read(b"")
        if self._unreadable is not None:
            self._answer_unreadable(self._unreadable)
        return True

    def _end(self, go_on: bool) -> None:
        """All that was here is answered. `go_on`: another request may follow."""
        if self._greedy:
            self._hang_up()
        elif not go_on or self._last:
            self.close()
        self.idle = True
        self._unanswered = 0
        self._door.end(self)
        self._wait(KEEPALIVE_SECONDS)

    async def _answer(self, request: Request) -> bool:
        """Whether another request may follow."""
        expected = request.headers.get(hdrs.EXPECT)
        waits = expected is not None and not request.old and expected.lower() == "100-continue"
        if waits and not request.oversized:
            self._write(CONTINUE)
        answer = await self._door.answer(request)
        go_on = self._send(request, answer)
        if answer.more is not None and self.transport is not None:
            self._endless = True
            await answer.more(self.transport)
        if not request.whole and not await request.skip(LINGER_SECONDS):
            return False
        if self._paused:
            await self._drain_helper()
        return go_on

    def _send(self, request: Request, answer: Answer) -> bool:
        """Whether another request may follow. Raises ConnectionResetError where the client has left."""
        last = self._last and not self._requests and self._unreadable is None
        close = answer.close or request.closes or last or self._door.draining.is_set()
        version, head = "1.0" if request.old else "1.1", request.method == hdrs.METH_HEAD
        self._write(answer.encode(self._door.headers, version=version, close=close, head=head))
        return not close

    def _answer_unreadable(self, exc: HttpProcessingError) -> None:
        """Answer what is no request: it doesn't come before any route."""
        refusal = _refusal(exc)
        answer = json_error(refusal.status, str(refusal))
        self._write(answer.encode(self._door.headers, version="1.0", close=True))
        reason = CutReason.LARGE if refusal.status == 431 else CutReason.NOT_HTTP
        self._door.announce(Cut(reason, refusal.status))

    def _write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client has left")
        self.transport.write(data)

    def _refuse(self, reason: CutReason) -> None:
        """Answer unread, and close."""
        status, answer = self._door.refusals[reason]
        assert self.transport is not None
        self._deaf = True
        self.transport.write(answer)
        self.close()
        self._door.announce(Cut(reason, status))

    def _take_no_more(self, *, answer: bool) -> None:
        """Close soon. `answer`: nothing else is being answered; else who waits for a body is refused."""
        self._deaf = self._last = self._greedy = True
        status, text = self._door.refusals[CutReason.LARGE]
        if not answer:
            self._break_body(Refused(status, TOO_MUCH, close=True))
        elif self.transport is not None:
            self.transport.write(text)
            self._hang_up()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.close)
        self._door.announce(Cut(CutReason.LARGE, status if answer else None))

    def _hang_up(self) -> None:
        """Say that nothing more comes, and go on reading: closing at once could lose what was said."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()

    def _wait(self, seconds: float) -> None:
        """So long for what comes next, if nothing is being answered then."""
        self._due = self._loop.time() + seconds
        if self.transport is None or self._deaf:
            return
        if self._timer is not None:
            if self._timer.when() <= self._due:
                return  # then it is looked at again
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._is_due)

    def _is_due(self) -> None:
        self._timer = None
        if not self.idle:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._is_due)
        elif self._unanswered:
            self._refuse(CutReason.SLOW)
        else:
            self.close()  # browsers open connections that they then don't need


def _refusal(exc: HttpProcessingError) -> Refused:
    said = (exc.message or "it can't be read").strip().partition(":")[0].rstrip(".")
    return Refused(431 if isinstance(exc, LineTooLong) else 400, f"this is not a request: {said}", close=True)
