"""Open visits of one site and one audience: who is current, who is only still on a visit.

A visit is a visitor's run of events with no gap of `gap_ms` or more. A visitor is current while an
event lies less than `window_ms` back, and is current on the page of the latest one, so the pages'
current visitors add up to the site's.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
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


class Pages:
    """Small numbers for the pages of open visits, given back when no visit holds them any more.

    Several `Visits` may have one: a number is a page of one of them.
    """

    def __init__(self) -> None:
        self.paths: list[str] = []
        """By number."""
        self.current: list[int] = []
        """How many are current on each page."""
        self._holders: list[int] = []
        self._free: list[int] = []

    def add(self, path: str) -> int:
        """A number for a page that nobody holds yet."""
        if self._free:
            page = self._free.pop()
            self.paths[page] = path
            return page
        self.paths.append(path)
        self.current.append(0)
        self._holders.append(0)
        return len(self.paths) - 1

    def hold(self, page: int) -> None:
        self._holders[page] += 1

    def release(self, page: int) -> bool:
        """Whether that was its last holder: then the number will be another page's."""
        self._holders[page] -= 1
        if self._holders[page]:
            return False
        self._free.append(page)
        return True


class Visits:
    """Memory is bounded by the visitors of the last `gap_ms` and their trails."""

    def __init__(self, window_ms: int, gap_ms: int, pages: Pages | None = None) -> None:
        self._window_ms = window_ms
        self._gap_ms = gap_ms
        # A visitor is in one of the two: in `_current`, then, where the gap is longer, in `_idle`.
        self._current = Window()
        self._idle = Window()
        self._due = 0
        """Before that, time changes nothing."""
        self.pages = Pages() if pages is None else pages
        self._numbers: dict[str, int] = {}
        # Only visits that saw more than one page have a trail; for others it is the window's tag.
        self._trails: dict[int, list[int]] = {}

    def touch(self, identity: Identity, path: str, at: int) -> tuple[bool, bool]:
        """Record an event; says whether it began a visit, and whether a visit of this page.

        `at` is in steady milliseconds and never goes back from one call to the next.
        """
        if at >= self._due:
            self.expire(at)
        visitor = identity.visitor
        page = self._number(path)
        seen = self._current.put(visitor, at, page)
        if seen is not None:
            self.pages.current[seen[1]] -= 1
        else:
            seen = self._idle.take(visitor)
            if seen is None and identity.formerly:
                seen = self._take_over(visitor, identity.formerly)
        self.pages.current[page] += 1
        if seen is None or at - seen[0] >= self._gap_ms:
            self.pages.hold(page)
            if seen is not None:
                self._close(visitor, seen[1])
            return True, True
        begins_page = page != seen[1] and self._enter(visitor, seen[1], page)
        if begins_page:
            self.pages.hold(page)
        return False, begins_page

    def expire(self, now: int) -> None:
        """Let time pass until `now`."""
        if now < self._due:
            return
        for visitor, at, page in self._current.expire(now - self._window_ms):
            self.pages.current[page] -= 1
            if self._gap_ms > self._window_ms:
                self._idle.put(visitor, at, page)
            else:
                self._close(visitor, page)
        for visitor, _, page in self._idle.expire(now - self._gap_ms):
            self._close(visitor, page)
        self._due = self._current.oldest() + self._window_ms
        if len(self._idle):
            self._due = min(self._due, self._idle.oldest() + self._gap_ms)

    def current(self) -> int:
        """Current visitors, as of the last `expire` or `touch`."""
        return len(self._current)

    def current_on(self, path: str) -> int:
        """Current visitors whose latest event was on `path`."""
        page = self._numbers.get(path)
        return 0 if page is None else self.pages.current[page]

    def __len__(self) -> int:
        """Visitors with an open visit."""
        return len(self._current) + len(self._idle)

    def trail(self, visitor: int) -> Sequence[int]:
        """The pages of a visitor's open visit, in order of their latest event; none if there is no visit."""
        trail = self._trails.get(visitor)
        if trail is None:
            seen = self._current.get(visitor) or self._idle.get(visitor)
            return () if seen is None else (seen[1],)
        return trail

    def restore(self, visits: Iterable[OpenVisit], now: int) -> None:
        """Take up, as of `now`, visits of visitors who have none, in order of their times."""
        for visitor, at, paths in visits:
            for path in paths:
                page = self._number(path)
                self.pages.hold(page)
            if len(paths) > 1:
                self._trails[visitor] = [self._numbers[path] for path in paths]
            if at > now - self._window_ms:
                self._current.put(visitor, at, page)
                self.pages.current[page] += 1
            else:
                self._idle.put(visitor, at, page)
        self._due = 0
        self.expire(now)

    def resize(self, window_ms: int, gap_ms: int) -> None:
        """Other settings hold from now on, for open visits too."""
        if (window_ms, gap_ms) == (self._window_ms, self._gap_ms):
            return
        self._window_ms, self._gap_ms, self._due = window_ms, gap_ms, 0
        for _, _, page in self._idle:
            self.pages.current[page] += 1
        every = Window()
        for visitor, at, page in chain(self._idle, self._current):
            every.put(visitor, at, page)
        self._current, self._idle = every, Window()

    def _number(self, path: str) -> int:
        """To be held."""
        page = self._numbers.get(path)
        if page is None:
            page = self._numbers[path] = self.pages.add(path)
        return page

    def _take_over(self, visitor: int, formerly: tuple[int, ...]) -> tuple[int, int] | None:
        for former in formerly:
            seen = self._current.take(former)
            if seen is not None:
                self.pages.current[seen[1]] -= 1
            else:
                seen = self._idle.take(former)
            if seen is not None:
                if former in self._trails:
                    self._trails[visitor] = self._trails.pop(former)
                return seen
        return None

    def _enter(self, visitor: int, last: int, page: int) -> bool:
        """The visitor goes from page `last` to another; whether this visit sees it for the first time."""
        trail = self._trails.setdefault(visitor, [last])
        known = page in trail
        if known:
            trail.remove(page)
        trail.append(page)
        if len(trail) > LONGEST_TRAIL:
            self._release(trail.pop(0))
        return not known

    def _close(self, visitor: int, last: int) -> None:
        for page in self._trails.pop(visitor, (last,)):
            self._release(page)

    def _release(self, page: int) -> None:
        if self.pages.release(page):
            del self._numbers[self.pages.paths[page]]
