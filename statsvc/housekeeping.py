"""What must happen now and then, whether or not anyone calls."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from zoneinfo import ZoneInfo

from statsvc import cardinality
from statsvc.announcements import Announcer, ClockStepped, Fault, Folded, SitesChanged
from statsvc.board import Board
from statsvc.calendar import local_hour, neighbour
from statsvc.duplicates import RECEIPT_SECONDS
from statsvc.errors import StoreError, Unreachable
from statsvc.keyring import DAYS_NEEDED, Keyring
from statsvc.model import Site
from statsvc.ports import Clock, Presence, Store
from statsvc.sites import Sites

LOOK_FOR_CHANGES_SECONDS = 0.5
FOLLOW_COMMITS_SECONDS = 0.25
"""So that a reader of a stream, which is looked at twice a second, has what others count within a second."""
TIDY_SECONDS = 600
WATCH_CLOCK_SECONDS = 1
LEAST_CLOCK_STEP_MS = 1000
"""A clock that is slewed, as NTP does it, moves far less than this in a second."""
PREPARE_MS = 6 * 3600 * 1000
"""So long before its day a secret is made: a store that is away at midnight then holds up no event."""
EARLIEST_ZONE = ZoneInfo("Etc/GMT+12")
CLOCK_STEP_MS = 3600 * 1000
"""Open visits are kept for this much longer than they last, for a wall clock that is set forward."""


class Housekeeping:
    """What must happen now and then, whether or not anyone calls."""

    def __init__(
        self,
        store: Store,
        sites: Sites,
        keyring: Keyring,
        presence: Presence,
        board: Board,
        clock: Clock,
        announce: Announcer,
        keep_page_days: int | None = None,
    ) -> None:
        self._store = store
        self._sites = sites
        self._keyring = keyring
        self._presence = presence
        self._board = board
        self._clock = clock
        self._announce = announce
        self._keep_page_days = keep_page_days
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._version: int | None = None
        now = clock.now()
        self._clock_offset_ms = now.wall_ms - now.steady_ms

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._every(LOOK_FOR_CHANGES_SECONDS, self.follow_changes)),
            asyncio.create_task(self._every(FOLLOW_COMMITS_SECONDS, self.follow_commits)),
            asyncio.create_task(self._every(WATCH_CLOCK_SECONDS, self.watch_clock)),
            asyncio.create_task(self._every(TIDY_SECONDS, self.tidy)),
        ]

    async def stop(self) -> None:
        """Begin nothing more, and let what was begun end: it may be in the middle of a transaction."""
        self._stopping.set()
        await asyncio.gather(*self._tasks)

    async def follow_changes(self) -> None:
        """A `statsvc site` command of another process shows here within a second."""
        version = await self._store.version()
        if version != self._version:
            first = self._version is None
            await self.read_sites(announce=not first)
            self._version = version

    async def follow_commits(self) -> None:
        """What other nodes count is in this one's totals within a second."""
        changed = await self._store.changed()
        if changed:
            await self._board.follow([site for site in self._sites if site.id in changed], self._clock.now())

    async def read_sites(self, *, announce: bool = True) -> None:
        """Know the sites and their baselines as they are now."""
        await self._sites.load()
        self._board.forget()
        if announce:
            self._announce(SitesChanged(len(self._sites)))

    async def watch_clock(self) -> None:
        """Days and hours follow the wall clock wherever it is set: operators should know."""
        now = self._clock.now()
        offset_ms = now.wall_ms - now.steady_ms
        if abs(offset_ms - self._clock_offset_ms) >= LEAST_CLOCK_STEP_MS:
            self._announce(ClockStepped((offset_ms - self._clock_offset_ms) / 1000))
            self._clock_offset_ms = offset_ms

    async def tidy(self) -> None:
        """Destroy what is no longer needed or wanted, wherever the sites' days have got to."""
        now = self._clock.now()
        longest_ms = max((1000 * max(s.window_seconds, s.visit_gap_seconds) for s in self._sites), default=0)
        # The earliest local day anywhere: a secret is needed by its own site's calendar.
        zones = [site.zone for site in self._sites] or [EARLIEST_ZONE]
        days = [local_hour(zone, now.wall_ms).day for zone in zones]
        days_before = neighbour(min(days), 1 - DAYS_NEEDED)
        receipts_before_ms = now.wall_ms - RECEIPT_SECONDS * 1000
        await self._store.forget(now.wall_ms - longest_ms - CLOCK_STEP_MS, receipts_before_ms, days_before)
        self._keyring.forget(days_before)
        if self._keep_page_days is not None:
            await self._store.let_go_of_page_days(neighbour(min(days), -self._keep_page_days))
        for site, day in zip(self._sites, days, strict=False):
            soon = local_hour(site.zone, now.wall_ms + PREPARE_MS).day
            if soon != day:
                await self._keyring.prepare(site, soon)
            await self._fold_pages(site, neighbour(day, 1 - cardinality.DAYS_HELD))
        await self._presence.trim(now)

    async def _fold_pages(self, site: Site, seen_before: str) -> None:
        """Keep as many pages of a site as are kept; none of those that a day at hand may still name."""
        while not self._stopping.is_set():
            paths = await self._store.fold_pages(
                site.id, cardinality.PAGES_KEPT, seen_before, cardinality.OTHER
            )
            if not paths:
                return
            self._board.forget_pages(site.id, (*paths, cardinality.OTHER))
            self._announce(Folded(site.domain, len(paths)))

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        told = ""
        while not self._stopping.is_set():
            try:
                await work()
                told = ""
            except Unreachable:
                pass  # told already, and by an alert of its own
            except Exception as exc:  # noqa: BLE001 - it will be tried again, whatever it was
                if told != str(exc):  # and told once, not twice a second
                    told = str(exc)
                    self._announce(_fault(exc))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)


def _fault(exc: Exception) -> Fault:
    """A store in trouble says all there is to say in its sentence."""
    return (
        Fault("housekeeping", str(exc), "") if isinstance(exc, StoreError) else Fault.of("housekeeping", exc)
    )
