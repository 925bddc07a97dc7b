"""What is committed but not yet in the tables that are read: a sum, which is part of every answer."""

from collections.abc import Iterable, Mapping, Sequence

from statsvc.model import DayCounts, History, PageTotals
from statsvc.tally import Tally, add, higher


class Waiting:
    """The sum of what waits, as a tally."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._days: set[str] = set()

    def add(self, tally: Tally) -> None:
        add(self.tally, tally)
        self._days.update([day for _, day, _ in tally.days], [day for _, day in tally.peaks])

    def to_histories(self, read: Sequence[History], wanted: Sequence[tuple[int, str, str]]) -> list[History]:
        """What was `read` for those `wanted`, as `Store.histories` has it, and this sum."""
        return [self._to_history(history, *of) for history, of in zip(read, wanted, strict=True)]

    def _to_history(self, read: History, site: int, first_day: str, today: str) -> History:
        total, days, peak, peak_today = read.total, dict(read.days), read.peak, read.peak_today
        for day in self._days:
            counts = self.tally.days.get((site, day, False))
            if counts is not None:
                total = PageTotals(total.visits + counts[0], total.pageviews + counts[1])
                if day >= first_day:
                    known = days.get(day, DayCounts(0, 0, 0))
                    days[day] = DayCounts(*map(sum, zip(known, counts, strict=True)))
            of_day = self.tally.peaks.get((site, day))
            if of_day is not None:
                peak = higher(peak, of_day)
                if day == today:
                    peak_today = higher(peak_today, of_day)
        return History(total, read.baseline, days, peak, peak_today)

    def to_pages(
        self, read: Mapping[tuple[int, str], PageTotals], keys: Iterable[tuple[int, str]]
    ) -> dict[tuple[int, str], PageTotals]:
        """What was `read` of these pages, and this sum; pages that are in neither are left out."""
        pages = dict(read)
        for site, path in dict.fromkeys(keys):
            for day in self._days:
                counts = self.tally.pages.get((site, day, path))
                if counts is not None:
                    known = pages.get((site, path), PageTotals(0, 0))
                    pages[site, path] = PageTotals(known.visits + counts[0], known.pageviews + counts[1])
        return pages
