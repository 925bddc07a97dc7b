"""`GET /box`: the counter box as a page of its own, for a frame; and what the badge asks as it does."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import orjson
from aiohttp import hdrs

from statsvc.api.answer import HTML, Answer
from statsvc.api.http import PAGE_HEADERS
from statsvc.api.reading import Reading, cache_headers, is_known, weak_etag
from statsvc.api.request import Request
from statsvc.board import Board
from statsvc.errors import InvalidEvent
from statsvc.languages import FALLBACK, TAG, TITLE, Language, language, rows
from statsvc.model import Site
from statsvc.picture import Box, Row, Style, Theme
from statsvc.ports import Clock
from statsvc.rules import normal_path

DEFAULT_ROWS = ("visits", "current")
PAGE = "page"
UNKNOWN = "–"
"""In the place of a number that is not known now."""
REFRESH_SECONDS = 30
"""How often an open page shows new numbers."""

_PLACES = {
    "visits": ("visits", "total"),
    "pageviews": ("pageviews", "total"),
    "current": ("current", "visitors"),
    "peak": ("current", "peak", "visitors"),
    PAGE: ("pages", PAGE, "pageviews"),
}
"""Where in the totals a row's number is; of all other rows it is a period's visits."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """How a box is to look, and which rows it has. The same question is the same object, mostly."""

    rows: tuple[str, ...]
    language: Language
    path: str | None
    """The page whose pageviews the row `page` shows."""
    theme: Theme
    style: Style
    varies: bool
    """Whether the language was chosen by what the reader's browser prefers."""


def question(query: Mapping[str, str], preferred: str, path: str | None = None) -> Question:
    """What a query asks. `preferred` is Accept-Language; `path`, the page that is meant where none is named.

    Raises InvalidEvent with all that is wrong.
    """
    show, theme, style = query.get("show", ""), query.get("theme", Theme.AUTO), query.get("style", Style.BOX)
    return _question(show, theme, style, query.get("lang", ""), query.get("path", ""), preferred, path)


@lru_cache(maxsize=1024)  # a badge is asked for with the same words by all who see it
def _question(
    show: str, theme: str, style: str, tag: str, given: str, preferred: str, path: str | None
) -> Question:
    wrong: dict[str, list[str]] = {}

    def told(field: str, sentence: str) -> None:
        wrong.setdefault(field, []).append(sentence)

    named = tuple(dict.fromkeys(show.replace(",", " ").split())) or DEFAULT_ROWS
    for name in named:
        if name not in rows():
            told("show", f"has no row {name[:50]!r}; there are {', '.join(rows())}")
    if tag and not TAG.fullmatch(tag):
        told("lang", f"expected a language such as vi or en-GB, got {tag[:50]!r}")
    if given:
        path = normal_path(given)
        if not given.startswith("/"):
            told("path", f"must begin with /, as in a URL, got {given[:200]!r}")
    if PAGE in named and not path:
        told("path", "is required for the row page: the page's path, such as /tin-tuc/1")
    for field, kind, kinds in (("theme", theme, list(Theme)), ("style", style, list(Style))):
        if kind not in kinds:
            told(field, f"expected {', '.join(kinds)}, got {kind[:50]!r}")
    if wrong:
        raise InvalidEvent(wrong)
    # The box of a page is written in the page's language, which an image can't know: then the reader's.
    asked = tag or preferred.partition(",")[0].partition(";")[0].strip()
    chosen = language(asked if TAG.fullmatch(asked) else FALLBACK)
    return Question(named, chosen, path, Theme(theme), Style(style), varies=not tag)


class Boxes:
    """What boxes are filled with."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board = board
        self._clock = clock

    async def totals(self, question: Question, site: Site) -> bytes:
        """As JSON, with all that is asked. Raises StoreError where they must be read and can't be."""
        paths = {PAGE: question.path} if PAGE in question.rows and question.path else {}
        return await self._board.answer(site, paths, self._clock.now())


def fill(question: Question, totals: bytes) -> Box:
    read, chosen = orjson.loads(totals), question.language
    filled = tuple(
        Row(name, chosen.labels[name], _written(_number(read, name), chosen)) for name in question.rows
    )
    return Box(chosen.tag, chosen.direction, chosen.labels[TITLE], filled)


def _number(totals: Mapping[str, Any], row: str) -> int | None:
    value: Any = totals
    for key in _PLACES.get(row, ("visits", row.replace("-", "_"))):
        value = value[key]
    return None if value is None else int(value)


def _written(number: int | None, language: Language) -> str:
    return UNKNOWN if number is None else language.number(number)


def picture_headers(site: Site, question: Question, etag: str) -> dict[str, str]:
    """For what is drawn of a site's numbers."""
    headers = cache_headers(site, etag)
    return headers | {hdrs.VARY: hdrs.ACCEPT_LANGUAGE} if question.varies else headers


class BoxRoutes:
    def __init__(self, reading: Reading, boxes: Boxes) -> None:
        self._reading = reading
        self._boxes = boxes
        assets = files("statsvc") / "assets"
        self._page, self._row = (
            Template((assets / f"{name}.html").read_text("utf-8")) for name in ("box", "box_row")
        )
        self._style = (assets / "box_page.css").read_text("utf-8")
        script = Template((assets / "box_page.js").read_text("utf-8"))
        self._script = script.substitute(milliseconds=REFRESH_SECONDS * 1000)
        self._policy = _policy(self._style, self._script)

    async def get(self, request: Request) -> Answer:
        """The box, for another page to show in a frame. Nothing is recorded."""
        asked = question(request.query, request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
        site = await self._reading.site(request)
        page = self._draw(fill(asked, await self._boxes.totals(asked, site)), asked.theme)
        etag = weak_etag(page.encode())
        headers = picture_headers(site, asked, etag) | self._policy
        if is_known(request, etag):
            return Answer(304, headers=headers)
        return Answer(200, page.encode(), HTML | headers)

    def _draw(self, box: Box, theme: Theme) -> str:
        lines = [
            self._row.substitute(name=row.name, label=escape(row.label), value=escape(row.value))
            for row in box.rows
        ]
        return self._page.substitute(
            lang=escape(box.lang),
            direction=box.direction,
            theme=theme,
            title=escape(box.title),
            rows="".join(lines),
            style=self._style,
            script=self._script,
            seconds=REFRESH_SECONDS,
        )


def _policy(style: str, script: str) -> dict[str, str]:
    policy = (
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors *",
    )
    return PAGE_HEADERS | {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "no-referrer"}


def _hash(inline: str) -> str:
    return f"sha256-{b64encode(sha256(inline.encode()).digest()).decode()}"
