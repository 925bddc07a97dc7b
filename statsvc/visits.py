"""Open visits of one site and one audience: who is current, who is only still on a visit.

A visit is a visitor's run of events with no gap of `gap_ms` or more. A visitor is current while an
event lies less than `window_ms` back, and is current on the page of the latest one, so the pages'
current visitors add up to the site's.
"""

from collections.abc import Iterator
from typing import NamedTuple

from statsvc.model import Identity
from statsvc.window import Window

LONGEST_TRAIL = 200
"""Pages of one visit that are remembered; to one left longer ago than that, it comes anew."""


class OpenVisit(NamedTuple):
    """All that must be remembered of a visitor to go on after a restart."""

    visitor: int
    at: int
    """When the latest event was, in steady milliseconds."""
    paths: tuple[str, ...]
    """The pages of this visit, each once, in order of their latest event."""


class Visits:
    """Memory is bounded by the visitors of the last `gap_ms` and their trails."""

    def __init__(self, window_ms: int, gap_ms: int) -> None:
        self._window_ms = window_ms
        self._gap_ms = gap_ms
        # A visitor is in one of the two: in `_current`, then, where the gap is longer, in `_idle`.
        self._current = Window()
        self._idle = Window()
        self._pages = _Pages()
        # Only visits that saw more than one page have a trail; for others it is the window's tag.
        self._trails: dict[int, list[int]] = {}

    def touch(self, identity: Identity, path: str, at: int) -> tuple[bool, bool]:
        """Record an event; says whether it began a visit, and whether a visit of this page.

        `at` is in steady milliseconds and never goes back from one call to the next.
        """
        self.expire(at)
        visitor = identity.visitor
        seen = self._take(visitor)
        if seen is None and identity.formerly:
            seen = self._take_over(visitor, identity.formerly)
        if seen is not None and at - seen[0] >= self._gap_ms:
            self._close(visitor, seen[1])
            seen = None
        page = self._pages.number(path)
        begins_page = seen is None or self._enter(visitor, seen[1], page)
        if begins_page:
            self._pages.hold(page)
        self._current.put(visitor, at, page)
        self._pages.current[page] += 1
        return seen is None, begins_page

    def expire(self, now: int) -> None:
        """Let time pass until `now`."""
        for visitor, at, page in self._current.expire(now - self._window_ms):
            self._pages.current[page] -= 1
            if self._gap_ms > self._window_ms:
                self._idle.put(visitor, at, page)
            else:
                self._close(visitor, page)
        for visitor, _, page in self._idle.expire(now - self._gap_ms):
            self._close(visitor, page)

    def current(self) -> int:
        """Current visitors, as of the last `expire` or `touch`."""
        return len(self._current)

    def current_on(self, path: str) -> int:
        """Current visitors whose latest event was on `path`."""
        page = self._pages.numbers.get(path)
        return 0 if page is None else self._pages.current[page]

    def __len__(self) -> int:
        """Visitors with an open visit."""
        return len(self._current) + len(self._idle)

    def open_visit(self, visitor: int) -> OpenVisit | None:
        seen = self._current.get(visitor) or self._idle.get(visitor)
        return None if seen is None else self._describe(visitor, *seen)

    def __iter__(self) -> Iterator[OpenVisit]:
        """Every open visit, the one seen longest ago first."""
        for window in (self._idle, self._current):
            for visitor, at, page in window:
                yield self._describe(visitor, at, page)

    def restore(self, visit: OpenVisit) -> None:
        """Take up a visit where it was left. Call in order of `visit.at`."""
        for path in visit.paths:
            page = self._pages.number(path)
            self._pages.hold(page)
        if len(visit.paths) > 1:
            self._trails[visit.visitor] = [self._pages.numbers[path] for path in visit.paths]
        self._current.put(visit.visitor, visit.at, page)
        self._pages.current[page] += 1

    def resized(self, window_ms: int, gap_ms: int) -> "Visits":
        """The same open visits under other settings; itself where they are the same."""
        if (window_ms, gap_ms) == (self._window_ms, self._gap_ms):
            return self
        resized = Visits(window_ms, gap_ms)
        for visit in self:
            resized.restore(visit)
        return resized

    def _take(self, visitor: int) -> tuple[int, int] | None:
        seen = self._current.take(visitor)
        if seen is not None:
            self._pages.current[seen[1]] -= 1
            return seen
        return self._idle.take(visitor)

    def _take_over(self, visitor: int, formerly: tuple[int, ...]) -> tuple[int, int] | None:
        for former in formerly:
            seen = self._take(former)
            if seen is not None:
                if former in self._trails:
                    self._trails[visitor] = self._trails.pop(former)
                return seen
        return None

    def _enter(self, visitor: int, last: int, page: int) -> bool:
        """The visitor goes from page `last` to `page`; whether this visit sees it for the first time."""
        if page == last:
            return False
        trail = self._trails.setdefault(visitor, [last])
        known = page in trail
        if known:
            trail.remove(page)
        trail.append(page)
        if len(trail) > LONGEST_TRAIL:
            self._pages.release(trail.pop(0))
        return not known

    def _close(self, visitor: int, last: int) -> None:
        for page in self._trails.pop(visitor, (last,)):
            self._pages.release(page)

    def _describe(self, visitor: int, at: int, last: int) -> OpenVisit:
        pages = self._trails.get(visitor, (last,))
        return OpenVisit(visitor, at, tuple(self._pages.paths[page] for page in pages))


class _Pages:
    """Small numbers for the paths of open visits, given back when no visit holds them any more."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.paths: list[str] = []
        self.current: list[int] = []
        self._holders: list[int] = []
        self._free: list[int] = []

    def number(self, path: str) -> int:
        page = self.numbers.get(path)
        if page is None:
            page = self._free.pop() if self._free else self._grow()
            self.numbers[path] = page
            self.paths[page] = path
        return page

    def hold(self, page: int) -> None:
        self._holders[page] += 1

    def release(self, page: int) -> None:
        self._holders[page] -= 1
        if not self._holders[page]:
            del self.numbers[self.paths[page]]
            self._free.append(page)

    def _grow(self) -> int:
        self.paths.append("")
        self.current.append(0)
        self._holders.append(0)
        return len(self.paths) - 1
