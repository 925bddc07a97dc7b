"""Where hits come in: `POST /api/event` and, for pages without scripts, `GET /hit.gif`."""

from statsvc.api.answer import JSON, Answer
from statsvc.api.request import Request
from statsvc.api.senders import Senders
from statsvc.api.wire import decode_event, event_of_query
from statsvc.collector import Collected, Collector

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

    async def post(self, request: Request) -> Answer:
        """Records the event in the body; answers with the totals."""
        event = decode_event(await request.read())
        collected = await self._collector.collect(event, self._senders.of(request))
        return Answer(202, collected.answer, JSON | headers_of(collected))

    async def pixel(self, request: Request) -> Answer:
        """Records the page named in the query; answers with a transparent GIF."""
        event = event_of_query(request.query)
        collected = await self._collector.collect(event, self._senders.of(request))
        return Answer(200, PIXEL, GIF | headers_of(collected))


def headers_of(collected: Collected) -> dict[str, str]:
    """For an answer to an event: why it is not counted, where it is not."""
    if not collected.dropped:
        return NEVER_CACHED
    reasons = ", ".join(dict.fromkeys(collected.dropped))
    dropped = {"X-Statsvc-Dropped": reasons, "X-Plausible-Dropped": str(len(collected.dropped))}
    return NEVER_CACHED | dropped
