"""Presence in this process's memory, known again after a restart from the store's journal."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from statsvc.errors import Unreachable
from statsvc.ids import Ids
from statsvc.model import Hit, Moment, Peak, Site, Touch
from statsvc.ports import Touched
from statsvc.presence import journal
from statsvc.presence.journal import Audience
from statsvc.visits import Pages, Visits

DAYS_KEPT = 2
"""Local days whose visitors are held: today's and, for a clock that steps back, another."""

AudienceDay = tuple[int, bool, str]
"""An audience, and a local day."""


class Known(Protocol):
    """What of a store is read."""

    async def open_visits(self) -> list[bytes]: ...

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]: ...


class _Group:
    """The hits of a batch that are of one audience and one local day."""

    __slots__ = ("day", "left", "most", "most_at_ms", "site", "visits")

    visits: Visits
    left: dict[int, Hit]
    """Of each visitor the latest hit, on whichever day."""

    def __init__(self, site: Site, day: Ids) -> None:
        self.site = site
        self.day = day
        self.most = -1
        """The most who were current at once."""
        self.most_at_ms = 0


class MemoryPresence:
    """Implements `ports.Presence`."""

    def __init__(self, store: Known, process: int | None = None) -> None:
        """`process` tells the journals of one process, whose steady clock is one, from others'."""
        self._store = store
        self._pages = Pages()
        self._visits: dict[Audience, Visits] = {}
        self._days: dict[AudienceDay, Ids] = {}
        self._unread: set[AudienceDay] = set()
        """Days of which the store may know more visitors."""
        self._process = random.getrandbits(60) if process is None else process

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        known = {site.id: site for site in sites}
        folded = journal.fold(await self._store.open_visits(), self._process, now)
        self._days.clear()
        self._unread.clear()
        self._visits.clear()
        self._pages = Pages()
        for audience, open_visits in folded.visits.items():
            if audience[0] in known:
                self._visits_of(known[audience[0]], audience).restore(open_visits, now.steady_ms)

    async def touch(self, hits: Sequence[Hit]) -> Touched:
        groups: dict[AudienceDay, _Group] = {}
        of_hits = []
        for hit in hits:
            key = (hit.site.id, hit.bot, hit.hour.day)
            group = groups.get(key)
            if group is None:
                day = self._days.get(key)
                if day is None or key in self._unread:
                    day = await self._read_day(key)
                group = groups[key] = _Group(hit.site, day)
            of_hits.append(group)
        # From here on nothing is waited for.
        left: dict[Audience, dict[int, Hit]] = {}
        for (site_id, bot, _), group in groups.items():
            group.visits = self._visits_of(group.site, (site_id, bot))
            group.left = left.setdefault((site_id, bot), {})
        touches: list[Touch] = []
        for hit, group in zip(hits, of_hits, strict=True):
            identity, visits = hit.identity, group.visits
            begins_visit, begins_page = visits.touch(identity, hit.path, hit.at.steady_ms)
            # Who is on a visit under this id was here today: the id is the day's.
            is_new = (begins_visit or identity.formerly != ()) and group.day.add(identity.visitor)
            touches.append(Touch(begins_visit, begins_page, is_new))
            group.left[identity.visitor] = hit
            current = visits.current()
            if current > group.most:
                group.most, group.most_at_ms = current, hit.at.wall_ms
        people = {group.site.id: group.visits for (_, bot, _), group in groups.items() if not bot}
        for group in groups.values():
            if group.site.id not in people:
                people[group.site.id] = self._visits_of(group.site, (group.site.id, False))
        for visits in people.values():
            visits.expire(hits[-1].at.steady_ms)
        return Touched(
            touches=touches,
            current={site_id: visits.current() for site_id, visits in people.items()},
            pages={(hit.site.id, hit.path): people[hit.site.id].current_on(hit.path) for hit in hits},
            peaks={
                (site_id, day): Peak(group.most, group.most_at_ms)
                for (site_id, bot, day), group in groups.items()
                if not bot
            },
            open_visits=self._journal(left),
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
        days: dict[Audience, list[str]] = {}
        for site_id, bot, day in sorted(self._days):
            days.setdefault((site_id, bot), []).append(day)
        for audience, of_audience in days.items():
            for day in of_audience[:-DAYS_KEPT]:
                del self._days[*audience, day]
        self._unread &= self._days.keys()

    def _visits_of(self, site: Site, audience: Audience) -> Visits:
        window_ms, gap_ms = site.window_seconds * 1000, site.visit_gap_seconds * 1000
        visits = self._visits.get(audience)
        if visits is None:
            visits = self._visits[audience] = Visits(window_ms, gap_ms, self._pages)
        else:
            visits.resize(window_ms, gap_ms)
        return visits

    async def _read_day(self, key: AudienceDay) -> Ids:
        site_id, bot, day = key
        try:
            visitors = await self._store.visitors(site_id, day, bot)
        except Unreachable:
            # Those who come meanwhile are new, as far as anybody can tell.
            visitors = []
            self._unread.add(key)
        else:
            self._unread.discard(key)
        known = self._days.get(key)
        if known is None:
            known = self._days[key] = Ids(visitors)
        else:
            for visitor in visitors:
                known.add(visitor)
        return known

    def _journal(self, left: Mapping[Audience, Mapping[int, Hit]]) -> bytes:
        touched = (
            (audience, hit, trail)
            for audience, hits in left.items()
            for visitor, hit in hits.items()
            if (trail := self._visits[audience].trail(visitor))
        )
        return journal.write(self._process, touched, self._pages.paths)
