"""`GET /badge.svg`: the counter box as a picture, for pages without scripts, README pages and mail."""

from functools import lru_cache

from aiohttp import hdrs

from statsvc.api.answer import Answer
from statsvc.api.box import Boxes, Question, fill, picture_headers, question
from statsvc.api.events import headers_of
from statsvc.api.reading import Reading, is_known, weak_etag
from statsvc.api.request import Request
from statsvc.api.senders import Senders
from statsvc.collector import Collected, Collector
from statsvc.errors import InvalidEvent
from statsvc.model import Event, Site
from statsvc.picture import draw
from statsvc.rules import page_of
from statsvc.tally import PAGEVIEW

SVG = {hdrs.CONTENT_TYPE: "image/svg+xml; charset=utf-8"}
# Opened by itself, a picture is a document of our origin: it may style itself and nothing else.
POLICY = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class BadgeRoutes:
    def __init__(self, reading: Reading, boxes: Boxes, collector: Collector, senders: Senders) -> None:
        self._reading = reading
        self._boxes = boxes
        self._collector = collector
        self._senders = senders

    async def get(self, request: Request) -> Answer:
        """The box, drawn; with `count=1`, the page `u` is counted first, as by `/hit.gif`."""
        url = _counted(request)
        path = page_of(url).path if url else None
        asked = question(request.query, request.headers.get(hdrs.ACCEPT_LANGUAGE, ""), path)
        site = await self._reading.site(request)
        collected = await self._count(request, site, url) if url else None
        svg, etag = _drawn(asked, await self._boxes.totals(asked, site))
        if collected is not None:
            headers = headers_of(collected)
        else:
            headers = picture_headers(site, asked, etag)
            if is_known(request, etag):
                return Answer(304, headers=headers)
        return Answer(200, svg, SVG | headers | POLICY)

    async def _count(self, request: Request, site: Site, url: str) -> Collected:
        event = Event(PAGEVIEW, url, (site.domain,))
        return await self._collector.collect(event, self._senders.of(request))


@lru_cache(maxsize=256)  # within a second the totals are the same, and a badge is asked for many times
def _drawn(asked: Question, totals: bytes) -> tuple[bytes, str]:
    """The picture and its ETag."""
    svg = draw(fill(asked, totals), asked.style, asked.theme).encode()
    return svg, weak_etag(svg)


def _counted(request: Request) -> str:
    """The address of the page that is to be counted; empty for none. Raises InvalidEvent."""
    count = request.query.get("count", "0")
    if count not in {"0", "1"}:
        raise InvalidEvent({"count": [f"expected 0 or 1, got {count[:50]!r}"]})
    url = request.query.get("u", "")
    if count == "1" and not url:
        raise InvalidEvent({"u": ["is required where count is 1: the address of the page that is counted"]})
    # Who asks for the headers alone sees no page.
    return url if count == "1" and request.method == hdrs.METH_GET else ""
