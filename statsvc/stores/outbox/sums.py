"""What the batches of an outbox add to the numbers that the store tells without them."""

from collections.abc import Hashable
from typing import TypeVar

from statsvc.model import DayCounts, History, PageTotals, Peak
from statsvc.tally import Tally, higher

Key = TypeVar("Key", bound=Hashable)


class Sums:
    """Of people's visits, pageviews and visitors, by site, day and page; memory as long as they aren't 0."""

    def __init__(self) -> None:
        self._sites: dict[int, list[int]] = {}
        self._days: dict[int, dict[str, list[int]]] = {}
        self._pages: dict[tuple[int, str], list[int]] = {}
        self._peaks: dict[int, dict[str, Peak]] = {}

    def add(self, tally: Tally) -> None:
        self._put(tally, 1)
        for (site, day), peak in tally.peaks.items():
            days = self._peaks.setdefault(site, {})
            days[day] = higher(days.get(day), peak)

    def take(self, tally: Tally) -> None:
        """What was added is in the store. Peaks stay: the higher of two is what it is."""
        self._put(tally, -1)

    def _put(self, tally: Tally, sign: int) -> None:
        for (site, day, bot), counts in tally.days.items():
            if not bot:
                _sum(self._sites, site, counts[:2], sign)
                days = self._days.setdefault(site, {})
                _sum(days, day, counts, sign)
                if not days:
                    del self._days[site]
        for (site, _, path), counts in tally.pages.items():
            _sum(self._pages, (site, path), counts, sign)

    def to_history(self, history: History, site_id: int, first_day: str, today: str) -> History:
        """The history with these sums."""
        visits, pageviews = self._sites.get(site_id, (0, 0))
        days = dict(history.days)
        for day, counts in self._days.get(site_id, {}).items():
            if day >= first_day:
                known = days.get(day, DayCounts(0, 0, 0))
                days[day] = DayCounts(*(a + b for a, b in zip(known, counts, strict=True)))
        peak, peaks = history.peak, self._peaks.get(site_id, {})
        for other in peaks.values():
            peak = higher(peak, other)
        peak_today = higher(history.peak_today, peaks[today]) if today in peaks else history.peak_today
        total = PageTotals(history.total.visits + visits, history.total.pageviews + pageviews)
        return History(total, history.baseline, days, peak, peak_today)

    def to_page(self, key: tuple[int, str], totals: PageTotals | None) -> PageTotals | None:
        """A page's totals with these sums; None where it is in neither."""
        if key not in self._pages:
            return totals
        visits, pageviews = self._pages[key]
        known = totals or PageTotals(0, 0)
        return PageTotals(known.visits + visits, known.pageviews + pageviews)


def _sum(sums: dict[Key, list[int]], key: Key, counts: list[int], sign: int) -> None:
    row = [a + sign * b for a, b in zip(sums.get(key, [0] * len(counts)), counts, strict=True)]
    if any(row):
        sums[key] = row
    else:
        sums.pop(key, None)
