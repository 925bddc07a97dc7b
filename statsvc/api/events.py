"""Where hits come in: `POST /api/event` and, for pages without scripts, `GET /hit.gif`."""

from collections.abc import Awaitable, Callable, Sequence

from statsvc.api.answer import JSON, Answer
from statsvc.api.dispatch import Result
from statsvc.api.request import Request
from statsvc.api.senders import Senders
from statsvc.api.wire import decode_event, event_of_query
from statsvc.collector import Collected, Collector, Outcome
from statsvc.model import Event

# The smallest GIF there is that every client takes: one transparent point.
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
GIF = {"Content-Type": "image/gif"}
NEVER_CACHED = {"Cache-Control": "no-store, max-age=0"}


class EventRoutes:
    def __init__(self, collector: Collector, senders: Senders) -> None:
        self._collector = collector
        self._senders = senders

    async def post(self, requests: Sequence[Request]) -> list[Result]:
        """Records the events in the bodies; answers with the totals."""
        return await self._record(requests, _in_body, _totals)

    async def pixel(self, requests: Sequence[Request]) -> list[Result]:
        """Records the pages named in the queries; answers with a transparent GIF."""
        return await self._record(requests, _in_query, _gif)

    async def _record(
        self,
        requests: Sequence[Request],
        event_of: Callable[[Request], Event],
        answer: Callable[[Collected], Answer],
    ) -> list[Result]:
        events: list[Event | Exception] = []
        for request in requests:
            try:
                events.append(event_of(request))
            except Exception as exc:  # noqa: BLE001 - a fault in one event is not that of others
                events.append(exc)
        senders = [self._senders.of(request) for request in requests]
        return [_result(outcome, answer) for outcome in await self._collector.collect_all(events, senders)]


def _in_body(request: Request) -> Event:
    return decode_event(request.body())


def _in_query(request: Request) -> Event:
    return event_of_query(request.query)


def _result(outcome: Outcome, answer: Callable[[Collected], Answer]) -> Result:
    if isinstance(outcome, Collected):
        return answer(outcome)
    return outcome if isinstance(outcome, Exception) else _later(outcome, answer)


async def _later(outcome: Awaitable[Collected], answer: Callable[[Collected], Answer]) -> Answer:
    return answer(await outcome)


def _totals(collected: Collected) -> Answer:
    return Answer(202, collected.answer, JSON | headers_of(collected))


def _gif(collected: Collected) -> Answer:
    return Answer(200, PIXEL, GIF | headers_of(collected))


def headers_of(collected: Collected) -> dict[str, str]:
    """For an answer to an event: why it is not counted, where it is not."""
    if not collected.dropped:
        return NEVER_CACHED
    reasons = ", ".join(dict.fromkeys(collected.dropped))
    dropped = {"X-Statsvc-Dropped": reasons, "X-Plausible-Dropped": str(len(collected.dropped))}
    return NEVER_CACHED | dropped
