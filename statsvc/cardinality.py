"""Paths and names are the sender's choice: how many of them a site can have in a day, and in all, is not.

What goes beyond is counted under `(other)`, so a site's totals stay exact while random paths, by
mistake or on purpose, can't grow the store without bound. A day's bound is kept as events come in; the
bound of all pages by housekeeping, which folds those that were read least.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from statsvc.announcements import Announcer, Capped
from statsvc.model import Hit
from statsvc.ports import Store
from statsvc.tally import ENGAGEMENT, PAGEVIEW

PATHS_A_DAY = 10_000
"""Different paths of a site in one local day; a portal's readers open some hundred to some thousand."""
PAGES_KEPT = 100_000
"""Different pages of a site, of all time, with numbers of their own."""
NAMES_A_DAY = 100
"""Different names of custom events of a site in one local day."""
OTHER = "(other)"
DAYS_HELD = 2

_Read = Callable[[int, str], Awaitable[set[str]]]


class Cardinality:
    def __init__(self, store: Store, announce: Announcer) -> None:
        self._announce = announce
        self._paths = _Known(store.paths, PATHS_A_DAY)
        self._names = _Known(store.names, NAMES_A_DAY)

    async def bound(self, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, with `(other)` for paths and names beyond the day's. Raises StoreError."""
        return [await self._bound(hit) for hit in hits]

    async def _bound(self, hit: Hit) -> Hit:
        if not await self._paths.admit(hit, hit.path):
            hit = msgspec.structs.replace(hit, path=OTHER)
            self._announce(Capped(hit.site.domain, "path"))
        if hit.name not in (PAGEVIEW, ENGAGEMENT) and not await self._names.admit(hit, hit.name):
            hit = msgspec.structs.replace(hit, name=OTHER)
            self._announce(Capped(hit.site.domain, "name"))
        return hit


class _Known:
    """What each site had on its latest local days, as the store knows it after a restart too."""

    def __init__(self, read: _Read, most: int) -> None:
        self._read = read
        self._most = most
        self._days: dict[int, dict[str, set[str]]] = {}

    async def admit(self, hit: Hit, text: str) -> bool:
        days = self._days.setdefault(hit.site.id, {})
        known = days.get(hit.hour.day)
        if known is None:
            known = days[hit.hour.day] = await self._read(hit.site.id, hit.hour.day)
            for day in sorted(days)[:-DAYS_HELD]:
                del days[day]
        if text in known:
            return True
        if len(known) >= self._most:
            return False
        known.add(text)
        return True
