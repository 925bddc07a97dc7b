"""What must happen now and then, whether or not anyone calls."""

import asyncio
from collections.abc import Awaitable, Callable

from statsvc.announcements import Announcer, Fault, SitesChanged
from statsvc.board import Board
from statsvc.calendar import local_hour, neighbour
from statsvc.keyring import DAYS_NEEDED, Keyring
from statsvc.ports import Clock, Presence, Store
from statsvc.sites import Sites

LOOK_FOR_CHANGES_SECONDS = 0.5
TIDY_SECONDS = 600


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
    ) -> None:
        self._store = store
        self._sites = sites
        self._keyring = keyring
        self._presence = presence
        self._board = board
        self._clock = clock
        self._announce = announce
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._every(LOOK_FOR_CHANGES_SECONDS, self.follow_changes)),
            asyncio.create_task(self._every(TIDY_SECONDS, self.tidy)),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def follow_changes(self) -> None:
        """A `statsvc site` command of another process shows here within a second."""
        if await self._store.changed():
            await self._sites.load()
            self._board.forget()
            self._announce(SitesChanged(len(self._sites)))

    async def tidy(self) -> None:
        """Destroy secrets and ids that are no longer needed, wherever the sites' days have got to."""
        now = self._clock.now()
        longest_ms = max((1000 * max(s.window_seconds, s.visit_gap_seconds) for s in self._sites), default=0)
        # The earliest local day anywhere: a secret is needed by its own site's calendar.
        days = [local_hour(site.zone, now.wall_ms).day for site in self._sites]
        if days:
            days_before = neighbour(min(days), 1 - DAYS_NEEDED)
            await self._store.forget(now.wall_ms - 2 * longest_ms, days_before)
            self._keyring.forget(days_before)
        await self._presence.trim(now)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as exc:  # noqa: BLE001 - it will be tried again, whatever it was
                self._announce(Fault.of("housekeeping", exc))
            await asyncio.sleep(seconds)
