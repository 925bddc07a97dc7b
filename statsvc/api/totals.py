"""`GET /api/totals`: the numbers, without recording anything."""

from hashlib import blake2b, sha256

from aiohttp import hdrs, web

from statsvc.board import Board
from statsvc.calendar import timestamp
from statsvc.errors import InvalidEvent, UnknownSite
from statsvc.model import Site
from statsvc.ports import Clock, Registry
from statsvc.rules import normal_path
from statsvc.sites import Sites

MOST_PATHS = 100
MAX_AGE_SECONDS = 5


class TotalsRoutes:
    def __init__(self, sites: Sites, registry: Registry, board: Board, clock: Clock) -> None:
        self._sites = sites
        self._registry = registry
        self._board = board
        self._clock = clock

    async def get(self, request: web.Request) -> web.Response:
        paths = request.query.getall("path", [])
        if len(paths) > MOST_PATHS:
            raise InvalidEvent({"path": [f"is given {len(paths)} times, at most {MOST_PATHS} are answered"]})
        site = await self._site(request)
        now = self._clock.now()
        body = await self._board.answer(site, {path: normal_path(path) for path in paths}, now)
        # Weak: two answers with the same numbers are the same, whenever they were given.
        numbers = body.replace(timestamp(now.wall_ms).encode(), b"", 1)
        etag = f'W/"{blake2b(numbers, digest_size=12).hexdigest()}"'
        scope = "public" if site.public else "private"
        headers = {hdrs.ETAG: etag, hdrs.CACHE_CONTROL: f"{scope}, max-age={MAX_AGE_SECONDS}"}
        if etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _site(self, request: web.Request) -> Site:
        domain = request.query.get("site", "")
        if not domain:
            raise InvalidEvent({"site": ["is required: the domain of a registered site"]})
        site = self._sites.find(domain)
        if site is None:
            raise UnknownSite(domain)
        if not site.public and await self._token_site(request) != site.id:
            raise web.HTTPForbidden(
                text=f"{site.domain} is private: send a token for it as `Authorization: Bearer TOKEN`"
            )
        return site

    async def _token_site(self, request: web.Request) -> int | None:
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        return await self._registry.token_site(sha256(token.strip().encode()).digest())
