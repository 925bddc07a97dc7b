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
        self._store = store
        self._announce = announce
        self._paths = _Known(store.paths, PATHS_A_DAY)
        self._names = _Known(self._custom_names, NAMES_A_DAY)

    async def bound(self, hits: Sequence[Hit]) -> list[Hit]:
        """The same hits, with `(other)` for paths and names beyond the day's. Raises StoreError."""
        bounded = []
        for hit in hits:
            paths = self._paths.known(hit) or await self._paths.read(hit)
            if hit.path not in paths and not self._paths.admit(paths, hit.path):
                hit = msgspec.structs.replace(hit, path=OTHER)  # noqa: PLW2901 - what counts of it
                self._announce(Capped(hit.site.domain, "path"))
            if hit.name not in (PAGEVIEW, ENGAGEMENT):
                names = self._names.known(hit) or await self._names.read(hit)
                if hit.name not in names and not self._names.admit(names, hit.name):
                    hit = msgspec.structs.replace(hit, name=OTHER)  # noqa: PLW2901 - what counts of it
                    self._announce(Capped(hit.site.domain, "name"))
            bounded.append(hit)
        return bounded

    async def _custom_names(self, site_id: int, day: str) -> set[str]:
        return await self._store.names(site_id, day) - {PAGEVIEW, ENGAGEMENT}


class _Known:
    """What each site had on its latest local days, as the store knows it after a restart too."""

    def __init__(self, read: _Read, most: int) -> None:
        self._read = read
        self._most = most
        self._days: dict[int, dict[str, set[str]]] = {}

    def known(self, hit: Hit) -> set[str] | None:
        """What the hit's site has on its day; None where that must be read."""
        days = self._days.get(hit.site.id)
        return None if days is None else days.get(hit.hour.day)

    async def read(self, hit: Hit) -> set[str]:
        """As `known`. Raises StoreError."""
        days = self._days.setdefault(hit.site.id, {})
        known = days.get(hit.hour.day)
        if known is None:
            known = days[hit.hour.day] = await self._read(hit.site.id, hit.hour.day)
            for day in sorted(days)[:-DAYS_HELD]:
                del days[day]
        return known

    def admit(self, known: set[str], new: str) -> bool:
        """Make `new` known, where it is not one too many."""
        if len(known) >= self._most:
            return False
        known.add(new)
        return True
