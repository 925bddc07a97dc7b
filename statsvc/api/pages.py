"""What browsers load: the script, and a page that shows the service works."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import blake2b, sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import orjson
from aiohttp import hdrs

from statsvc.api.answer import HTML, Answer
from statsvc.api.box import UNKNOWN
from statsvc.api.http import PAGE_HEADERS
from statsvc.api.request import Request
from statsvc.board import Board
from statsvc.model import Site
from statsvc.ports import Clock
from statsvc.sites import Sites

SCRIPT_MAX_AGE_SECONDS = 3600
SCRIPT_STALE_SECONDS = 7 * 24 * 3600
INDEX_PATH = "/"


class PageRoutes:
    def __init__(self, sites: Sites, board: Board, clock: Clock) -> None:
        self._sites = sites
        self._board = board
        self._clock = clock
        assets = files("statsvc") / "assets"
        self._script = (assets / "counter.js").read_bytes()
        self._script_etag = f'"{blake2b(self._script, digest_size=12).hexdigest()}"'
        names = ("index", "sites", "site", "no_sites", "sample")
        self._html = {name: Template((assets / f"{name}.html").read_text("utf-8")) for name in names}
        self._style = (assets / "index.css").read_text("utf-8")
        self._index_headers = _index_headers(self._style)

    async def script(self, request: Request) -> Answer:
        headers: dict[str, str] = {
            hdrs.ETAG: self._script_etag,
            # The stale one serves pages through an outage: it shows the last numbers.
            hdrs.CACHE_CONTROL: (
                f"public, max-age={SCRIPT_MAX_AGE_SECONDS}, stale-while-revalidate={SCRIPT_STALE_SECONDS}"
            ),
        }
        if self._script_etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return Answer(304, headers=headers)
        return Answer(200, self._script, {hdrs.CONTENT_TYPE: "text/javascript; charset=utf-8"} | headers)

    async def index(self, request: Request) -> Answer:
        """Each public site's numbers, and the lines to paste.

        Opened under a registered site's own host it counts itself, as a page of that site would.
        """
        own = self._site_opened(request)
        cards, sample = [], ""
        for site in self._sites:
            if site.public:
                totals = await self._totals(site)
                cards.append(self._card(site, totals, _line(request, site), live=site is own))
                if site is own:
                    numbers = _numbers(totals, _vietnamese)
                    sample = self._html["sample"].substitute(numbers, domain=escape(site.domain))
        page = self._html["index"].substitute(
            style=self._style,
            sample=sample,
            sites=self._html["sites" if cards else "no_sites"].substitute(cards="".join(cards)),
            script=_tag("/counter.js", own, " data-count-local") if own else "",
        )
        return Answer(200, page.encode(), HTML | self._index_headers)

    def _site_opened(self, request: Request) -> Site | None:
        """The public site whose own host, or an alias, is in the browser's address bar."""
        site = self._sites.find(request.host.partition(":")[0])
        return site if site is not None and site.public else None

    async def _totals(self, site: Site) -> Mapping[str, Any]:
        answer = await self._board.answer(site, {INDEX_PATH: INDEX_PATH}, self._clock.now())
        totals: Mapping[str, Any] = orjson.loads(answer)
        return totals

    def _card(self, site: Site, totals: Mapping[str, Any], line: str, *, live: bool) -> str:
        return self._html["site"].substitute(
            _numbers(totals, _english),
            domain=escape(site.domain),
            time_zone=escape(site.time_zone),
            line=escape(line),
            # The script fills what is named by `data-statsvc`, with the numbers of the site it counts for.
            named="data-statsvc" if live else "data-number",
        )


def _line(request: Request, site: Site) -> str:
    """What to paste, with this service's address as the browser called it.

    Behind a proxy that ends TLS only the proxy knows the scheme. It is believed from anyone: whoever
    says it is the only one who is told.
    """
    scheme = "https" if request.headers.get(hdrs.X_FORWARDED_PROTO) == "https" else "http"
    host = request.host.encode(errors="replace").decode()
    return _tag(f"{scheme}://{host}/counter.js", site)


def _tag(address: str, site: Site, more: str = "") -> str:
    return f'<script defer src="{escape(address)}" data-domain="{escape(site.domain)}"{more}></script>'


def _numbers(totals: Mapping[str, Any], written: Callable[[int], str]) -> dict[str, str]:
    """The numbers by their names in the templates: `visits_total` is `visits.total`."""
    groups = {group: totals[group] for group in ("current", "visits", "pageviews", "visitors")}
    groups["page"] = totals["pages"][INDEX_PATH]
    return {
        f"{group}_{name}": UNKNOWN if number is None else written(number)
        for group, numbers in groups.items()
        for name, number in numbers.items()
        if number is None or isinstance(number, int)
    }


def _english(number: int) -> str:
    return f"{number:,}"


def _vietnamese(number: int) -> str:
    return f"{number:,}".replace(",", ".")


def _index_headers(style: str) -> dict[str, str]:
    style_hash = b64encode(sha256(style.encode()).digest()).decode()
    policy = (
        "default-src 'none'",
        f"style-src 'sha256-{style_hash}'",
        "script-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return PAGE_HEADERS | {
        hdrs.CACHE_CONTROL: "no-store",
        "Content-Security-Policy": "; ".join(policy),
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "DENY",
    }
