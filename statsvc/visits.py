"""Open visits of one site and one audience: who is current, who is only still on a visit.

A visit is a visitor's run of events with no gap of `gap_ms` or more. A visitor is current while an
event lies less than `window_ms` back, and is current on the page of the latest one, so the pages'
current visitors add up to the site's.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, compress

from statsvc.ids import WORD
from statsvc.model import Identity
from statsvc.window import Window

LONGEST_TRAIL = 200
"""Pages of one visit that are remembered; to one left longer ago than that, it comes anew."""


class OpenVisits:
    """All that must be remembered of many visitors to go on after a restart, in little memory.

    A visitor has the same place in each of three columns.
    """

    def __init__(self) -> None:
        self.visitors = array(WORD)
        self.at = array(WORD)
        """When the latest event was, in steady milliseconds."""
        self.paths: list[tuple[str, ...]] = []
        """The pages of this visit, each once, in order of their latest event."""

    def __len__(self) -> int:
        return len(self.visitors)

    def __iter__(self) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        return zip(self.visitors, self.at, self.paths, strict=True)

    def add(self, visitor: int, at: int, paths: tuple[str, ...]) -> None:
        self.visitors.append(visitor)
        self.at.append(at)
        self.paths.append(paths)

    def those(self, chosen: Sequence[bool]) -> "OpenVisits":
        """Those whose places say True."""
        those = OpenVisits()
        those.visitors.extend(compress(self.visitors, chosen))
        those.at.extend(compress(self.at, chosen))
        those.paths.extend(compress(self.paths, chosen))
        return those


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

    def hold(self, page: int, times: int = 1) -> None:
        self._holders[page] += times

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

    def restore(self, visits: OpenVisits, now: int) -> None:
        """Take up, as of `now`, every open visit, while there is none."""
        for path, holders in Counter(chain.from_iterable(visits.paths)).items():
            self.pages.hold(self._number(path), holders)
        numbers = self._numbers
        self._trails = {
            visitor: [numbers[path] for path in paths] for visitor, _, paths in visits if len(paths) > 1
        }
        since = now - self._window_ms
        current = visits.those([at > since for at in visits.at])
        idle = visits.those([at <= since for at in visits.at])
        for window, part in ((self._current, current), (self._idle, idle)):
            window.fill(part.visitors, part.at, [numbers[paths[-1]] for paths in part.paths])
        for path, visitors in Counter(paths[-1] for paths in current.paths).items():
            self.pages.current[numbers[path]] = visitors
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
