"""Presence in this process's memory, known again after a restart from the store's journal."""

import random
from collections.abc import Iterable, Sequence
from typing import Protocol

from statsvc.errors import Unreachable
from statsvc.ids import Ids
from statsvc.model import Hit, Moment, Peak, Site, Touch
from statsvc.ports import Touched
from statsvc.presence import journal
from statsvc.presence.journal import Audience
from statsvc.visits import Visits

DAYS_KEPT = 2
"""Local days whose visitors are held: today's and, for a clock that steps back, another."""


class Known(Protocol):
    """What of a store is read."""

    async def open_visits(self) -> list[bytes]: ...

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]: ...


class MemoryPresence:
    """Implements `ports.Presence`."""

    def __init__(self, store: Known, process: int | None = None) -> None:
        """`process` tells the journals of one process, whose steady clock is one, from others'."""
        self._store = store
        self._visits: dict[Audience, Visits] = {}
        self._days: dict[Audience, dict[str, Ids]] = {}
        self._unread: set[tuple[Audience, str]] = set()
        """Days of which the store may know more visitors."""
        self._process = random.getrandbits(60) if process is None else process

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        known = {site.id: site for site in sites}
        folded = journal.fold(await self._store.open_visits(), self._process, now)
        self._days.clear()
        self._unread.clear()
        self._visits.clear()
        for audience, open_visits in folded.visits.items():
            if audience[0] in known:
                visits = self._visits_of(known[audience[0]], audience)
                for visit in open_visits:
                    visits.restore(visit)
        for visits in self._visits.values():
            visits.expire(now.steady_ms)

    async def touch(self, hits: Sequence[Hit]) -> Touched:
        days = [await self._day_of(hit) for hit in hits]
        touches: list[Touch] = []
        peaks: dict[tuple[int, str], Peak] = {}
        touched: dict[tuple[Audience, int], Hit] = {}
        for hit, day in zip(hits, days, strict=True):
            audience = (hit.site.id, hit.bot)
            visits = self._visits_of(hit.site, audience)
            visitor = hit.identity.visitor
            begins_visit, begins_page = visits.touch(hit.identity, hit.path, hit.at.steady_ms)
            # Who is on a visit under this id was here today: the id is the day's.
            was_here = not begins_visit and not hit.identity.formerly
            touches.append(Touch(begins_visit, begins_page, not was_here and day.add(visitor)))
            touched[audience, visitor] = hit
            if not hit.bot:
                _raise_peak(peaks, (hit.site.id, hit.hour.day), visits.current(), hit.at.wall_ms)
        people = {hit.site.id: self._visits_of(hit.site, (hit.site.id, False)) for hit in hits}
        for visits in people.values():
            visits.expire(hits[-1].at.steady_ms)
        return Touched(
            touches=touches,
            current={site_id: visits.current() for site_id, visits in people.items()},
            pages={(hit.site.id, hit.path): people[hit.site.id].current_on(hit.path) for hit in hits},
            peaks=peaks,
            open_visits=self._journal(touched),
        )

    async def current(self, site: Site, now: Moment) -> int:
        visits = self._visits_of(site, (site.id, False))
        visits.expire(now.steady_ms)
        return visits.current()

    async def current_on(self, site: Site, paths: Sequence[str], now: Moment) -> list[int]:
        visits = self._visits_of(site, (site.id, False))
        visits.expire(now.steady_ms)
        return [visits.current_on(path) for path in paths]

    def is_known(self) -> bool:
        return True

    def open_visits(self) -> int:
        return sum(len(visits) for visits in self._visits.values())

    def window_entries(self) -> int:
        return sum(visits.current() for visits in self._visits.values())

    async def trim(self, now: Moment) -> None:
        for audience, visits in list(self._visits.items()):
            visits.expire(now.steady_ms)
            if not visits:
                del self._visits[audience]
        for days in self._days.values():
            for day in sorted(days)[:-DAYS_KEPT]:
                del days[day]
        self._unread = {(audience, day) for audience, day in self._unread if day in self._days[audience]}

    def _visits_of(self, site: Site, audience: Audience) -> Visits:
        window_ms, gap_ms = site.window_seconds * 1000, site.visit_gap_seconds * 1000
        visits = self._visits.get(audience)
        visits = Visits(window_ms, gap_ms) if visits is None else visits.resized(window_ms, gap_ms)
        self._visits[audience] = visits
        return visits

    async def _day_of(self, hit: Hit) -> Ids:
        audience, name = (hit.site.id, hit.bot), hit.hour.day
        days = self._days.setdefault(audience, {})
        day = days.get(name)
        if day is not None and not (self._unread and (audience, name) in self._unread):
            return day
        try:
            visitors = await self._store.visitors(hit.site.id, name, hit.bot)
        except Unreachable:
            # Those who come meanwhile are new, as far as anybody can tell.
            visitors = []
            self._unread.add((audience, name))
        else:
            self._unread.discard((audience, name))
        if day is None:
            day = days[name] = Ids(visitors)
        else:
            for visitor in visitors:
                day.add(visitor)
        return day

    def _journal(self, touched: dict[tuple[Audience, int], Hit]) -> bytes:
        left = []
        for (audience, visitor), hit in touched.items():
            visit = self._visits[audience].open_visit(visitor)
            if visit is not None:
                left.append((audience, hit, visit.paths))
        return journal.write(self._process, left)


def _raise_peak(peaks: dict[tuple[int, str], Peak], key: tuple[int, str], visitors: int, at_ms: int) -> None:
    peak = peaks.get(key)
    if peak is None or visitors > peak.visitors:
        peaks[key] = Peak(visitors, at_ms)
