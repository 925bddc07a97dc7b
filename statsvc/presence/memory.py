"""Presence in this process's memory, known again after a restart from the store's journal."""

import random
from collections.abc import Iterable, Sequence

import msgspec

from statsvc.errors import StoreDamaged
from statsvc.model import Hit, Moment, Peak, Site, Touch
from statsvc.ports import Store, Touched
from statsvc.visits import OpenVisit, Visits

Audience = tuple[int, bool]
"""A site's id, and whether its bots (True) or people are meant."""


class _Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A visit as a batch left it. The newest entry of a visitor is the whole truth about the visit."""

    site: int
    bot: bool
    visitor: int
    wall_ms: int
    steady_ms: int
    """The visit's latest event on both clocks; the steady one means something to the same process only."""
    pages: list[int]
    """Places in the record's `paths`, in the order of the visit's trail."""
    formerly: tuple[int, ...]


class _Record(msgspec.Struct, array_like=True):
    """The journal of one batch."""

    process: int
    """Whose steady clock it was."""
    paths: list[str]
    visits: list[_Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode

DAYS_KEPT = 2
"""Local days whose visitors are held: today's and, for a clock that steps back, another."""


class MemoryPresence:
    """Implements `ports.Presence`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._visits: dict[Audience, Visits] = {}
        self._days: dict[Audience, dict[str, set[int]]] = {}
        self._process = random.getrandbits(60)

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        known = {site.id: site for site in sites}
        newest: dict[tuple[Audience, int], OpenVisit] = {}
        for journal in await self._store.open_visits():
            record = _record(journal)
            for entry in record.visits:
                audience = (entry.site, entry.bot)
                for former in entry.formerly:
                    newest.pop((audience, former), None)
                if record.process == self._process:
                    at = entry.steady_ms
                else:
                    # A wall clock that has stepped back must not put a visitor into the future.
                    at = max(0, now.steady_ms - max(0, now.wall_ms - entry.wall_ms))
                paths = tuple(record.paths[page] for page in entry.pages)
                newest[audience, entry.visitor] = OpenVisit(entry.visitor, at, paths)
        self._days.clear()
        self._visits.clear()
        for (audience, _), visit in sorted(newest.items(), key=lambda item: item[1].at):
            if audience[0] in known:
                self._visits_of(known[audience[0]], audience).restore(visit)
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
            touches.append(Touch(begins_visit, begins_page, visitor not in day))
            day.add(visitor)
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

    def _visits_of(self, site: Site, audience: Audience) -> Visits:
        window_ms, gap_ms = site.window_seconds * 1000, site.visit_gap_seconds * 1000
        visits = self._visits.get(audience)
        visits = Visits(window_ms, gap_ms) if visits is None else visits.resized(window_ms, gap_ms)
        self._visits[audience] = visits
        return visits

    async def _day_of(self, hit: Hit) -> set[int]:
        days = self._days.setdefault((hit.site.id, hit.bot), {})
        day = days.get(hit.hour.day)
        if day is None:
            day = days[hit.hour.day] = set(await self._store.visitors(hit.site.id, hit.hour.day, hit.bot))
        return day

    def _journal(self, touched: dict[tuple[Audience, int], Hit]) -> bytes:
        paths: dict[str, int] = {}
        entries = []
        for ((site_id, bot), visitor), hit in touched.items():
            visit = self._visits[site_id, bot].open_visit(visitor)
            if visit is not None:
                pages = [paths.setdefault(path, len(paths)) for path in visit.paths]
                formerly = hit.identity.formerly
                entries.append(_Entry(site_id, bot, visitor, *hit.at, pages, formerly))
        return _encode(_Record(self._process, list(paths), entries))


def _record(journal: bytes) -> _Record:
    """Raises StoreDamaged for what is not as it was written."""
    try:
        record = _decode(journal)
        if any(max(entry.pages) >= len(record.paths) for entry in record.visits if entry.pages):
            raise ValueError("it names a page that is not there")  # noqa: TRY301 - as the decoder would
    except (msgspec.MsgspecError, ValueError) as exc:
        raise StoreDamaged(
            f"an open visit that is kept in the store can't be read ({exc}): stop the service, put the store"
            " aside and restore a backup"
        ) from exc
    return record


def _raise_peak(peaks: dict[tuple[int, str], Peak], key: tuple[int, str], visitors: int, at_ms: int) -> None:
    peak = peaks.get(key)
    if peak is None or visitors > peak.visitors:
        peaks[key] = Peak(visitors, at_ms)
