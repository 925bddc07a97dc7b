"""`GET /api/totals`: the numbers, without recording anything."""

from functools import lru_cache

from statsvc.api.answer import JSON, Answer
from statsvc.api.reading import Reading, cache_headers, is_known, numbers, weak_etag
from statsvc.api.request import Request
from statsvc.board import Board
from statsvc.errors import InvalidEvent
from statsvc.ports import Clock
from statsvc.rules import normal_path

MOST_PATHS = 100


class TotalsRoutes:
    def __init__(self, reading: Reading, board: Board, clock: Clock) -> None:
        self._reading = reading
        self._board = board
        self._clock = clock

    async def get(self, request: Request) -> Answer:
        paths = request.query.getall("path", [])
        if len(paths) > MOST_PATHS:
            raise InvalidEvent({"path": [f"is given {len(paths)} times, at most {MOST_PATHS} are answered"]})
        if wrong := next((path for path in paths if not path.startswith("/")), None):
            raise InvalidEvent({"path": [f"must begin with /, as in a URL, got {wrong[:200]!r}"]})
        site = await self._reading.site(request)
        now = self._clock.now()
        body = await self._board.answer(site, {path: normal_path(path) for path in paths}, now)
        etag = _etag(body, now.wall_ms // 1000 * 1000)
        headers = cache_headers(site, etag)
        if is_known(request, etag):
            return Answer(304, headers=headers)
        return Answer(200, body, JSON | headers)


@lru_cache(maxsize=256)  # within a second the totals are the same
def _etag(body: bytes, as_of_ms: int) -> str:
    return weak_etag(numbers(body, as_of_ms))
