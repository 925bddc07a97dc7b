"""From a request to its answer: who answers at its address, and what becomes of errors."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, NoReturn
from urllib.parse import unquote

from aiohttp import hdrs

from statsvc.announcements import Announcer, Fault, Rejected
from statsvc.api.answer import Answer
from statsvc.api.http import error_answer
from statsvc.api.request import Request
from statsvc.errors import Refused, StoreError, Unavailable

Handler = Callable[[Request], Awaitable[Answer]]
Observe = Callable[[str, str, int, float, int], None]
"""Told of answers: their route's template, method, status, the seconds each took, and how many they are."""
Tell = Callable[[Answer], None]
Result = Answer | Exception | Awaitable[Answer]
"""An answer, why there is none, or what is to be awaited for it, and no other answer waits for."""

_PLACE = re.compile(r"{(\w+)}")
"""In a template: any one segment of a path."""


class Together:
    """A handler of all requests for it that come in one turn of the event loop. They are whole."""

    def __init__(self, handle: Callable[[Sequence[Request]], Awaitable[Sequence[Result]]]) -> None:
        self.handle = handle
        self.waiting: list[tuple[Request, Tell]] = []

    async def __call__(self, request: Request) -> Answer:
        """As any other handler, for a request whose body is on its way."""
        await request.read()
        (result,) = await self.handle([request])
        if isinstance(result, Exception):
            raise result
        return result if isinstance(result, Answer) else await result


class Route(NamedTuple):
    """An address with what answers there, by method.

    A template such as `/api/sites/{domain}` stands for many addresses: `Request.named` has the domain.
    """

    template: str
    handlers: Mapping[str, Handler]


class Dispatch:
    """The routes of a listener."""

    def __init__(
        self, routes: Mapping[str, Mapping[str, Handler]], announce: Announcer, observe: Observe
    ) -> None:
        """`routes` has the handlers of each template by their method."""
        self._announce = announce
        self._observe = observe
        self.routes = [Route(template, handlers) for template, handlers in routes.items()]
        self._fixed = {route.template: route for route in self.routes if "{" not in route.template}
        self._patterns = [(_pattern(route.template), route) for route in self.routes if "{" in route.template]
        self._answering: set[asyncio.Task[None]] = set()

    def join(self, request: Request, tell: Tell) -> bool:
        """Whether it is answered, by `tell`, with others that come in this turn of the event loop."""
        route = self._fixed.get(request.path)
        together = route.handlers.get(request.method) if route is not None else None
        if route is None or not isinstance(together, Together) or not request.whole:
            return False
        if not together.waiting:
            self._start(self._answer_together(together, route.template, request.method))
        together.waiting.append((request, tell))
        return True

    async def answer(self, request: Request) -> Answer:
        """Never raises but where the client has left; what handlers raise becomes a sentence for people."""
        began = perf_counter()
        route = self._fixed.get(request.path) or self._matching(request)
        handler = route.handlers.get(request.method) if route is not None else None
        try:
            answer = await handler(request) if handler is not None else _no_answer(request.method, route)
        except ConnectionResetError:
            raise  # there is nobody to answer, and nothing is wrong here
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets an answer
            answer = self._error(exc, request)
        if route is not None and handler is not None:
            self._observe(route.template, request.method, answer.status, perf_counter() - began, 1)
        else:
            # What was asked for, and how, is the caller's choice: it must not become a label.
            self._observe("(none)", "(any)", answer.status, perf_counter() - began, 1)
        return answer

    async def _answer_together(self, together: Together, template: str, method: str) -> None:
        began = perf_counter()
        waiting, together.waiting = together.waiting, []
        results: Sequence[Result]
        try:
            results = await together.handle([request for request, _ in waiting])
        except Exception as exc:  # noqa: BLE001 - as above
            results = [exc] * len(waiting)

        async def answer_later(result: Awaitable[Answer], request: Request, tell: Tell) -> None:
            try:
                answer = await result
            except Exception as exc:  # noqa: BLE001 - as above
                answer = self._error(exc, request)
            self._observe(template, method, answer.status, perf_counter() - began, 1)
            tell(answer)

        statuses: list[int] = []
        for (request, tell), result in zip(waiting, results, strict=True):
            answer = self._error(result, request) if isinstance(result, Exception) else result
            if isinstance(answer, Answer):
                statuses.append(answer.status)
                tell(answer)
            else:
                self._start(answer_later(answer, request, tell))
        for status, count in Counter(statuses).items():
            self._observe(template, method, status, perf_counter() - began, count)

    def _start(self, answering: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(answering)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def _error(self, exc: Exception, request: Request) -> Answer:
        answer = error_answer(exc)
        if answer.status >= 500 and not isinstance(exc, Unavailable | StoreError):
            self._announce(Fault.of(f"{request.method} {request.path[:200]}", exc))
        self._announce(Rejected(answer.status))
        return answer

    def _matching(self, request: Request) -> Route | None:
        for pattern, route in self._patterns:
            if found := pattern.fullmatch(request.url.raw_path):
                request.named = {name: unquote(text) for name, text in found.groupdict().items()}
                return route
        return None


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(_PLACE.sub(r"(?P<\1>[^/]+)", template))


def _no_answer(method: str, route: Route | None) -> NoReturn:
    if route is None:
        raise Refused(404, "there is nothing at this address")
    allowed = ", ".join(sorted(route.handlers))
    raise Refused(405, f"{method} is not answered here; these are: {allowed}", {hdrs.ALLOW: allowed})
