"""The numbers a portal shows: computed and written as JSON here and nowhere else."""

from collections.abc import Mapping
from typing import Any

import orjson

from statsvc.calendar import PERIODS, periods, timestamp
from statsvc.model import DayCounts, History, PageTotals, Peak, Site

VISITOR_PERIODS = ("today", "yesterday")
"""Ids live for a day, so visitors of longer periods can't be told apart: there is no such number."""


class SiteTotals:
    """A site's totals on one local day, kept right by adding what each commit added."""

    def __init__(self, site: Site, today: str, history: History) -> None:
        self.site = site
        self.today = today
        self.peak = history.peak
        self.peak_today = history.peak_today
        self._periods = periods(today)
        self._periods_of_today = [name for name, period in self._periods.items() if today in period]
        self._encoded: tuple[tuple[int | None, int], bytes] | None = None
        self._visits = {"total": history.baseline.visits + history.total.visits} | dict.fromkeys(PERIODS, 0)
        self._pageviews = {"total": history.baseline.pageviews + history.total.pageviews} | dict.fromkeys(
            PERIODS, 0
        )
        self._visitors = dict.fromkeys(VISITOR_PERIODS, 0)
        for day, counts in history.days.items():
            self._add_to_periods(day, counts)

    @staticmethod
    def first_day_needed(today: str) -> str:
        """The earliest local day whose counts are part of a period seen on `today`."""
        return min(period.first for period in periods(today).values())

    def add(self, day: str, counts: DayCounts) -> None:
        """A commit added `counts` to local day `day`."""
        self._encoded = None
        self._visits["total"] += counts.visits
        self._pageviews["total"] += counts.pageviews
        self._add_to_periods(day, counts)

    def see_peak(self, day: str, peak: Peak) -> None:
        """There were so many current visitors on `day`. The first moment of a height is kept."""
        self._encoded = None
        if self.peak is None or peak.visitors > self.peak.visitors:
            self.peak = peak
        if day == self.today and (self.peak_today is None or peak.visitors > self.peak_today.visitors):
            self.peak_today = peak

    def _add_to_periods(self, day: str, counts: DayCounts) -> None:
        names = self._periods_of_today
        if day != self.today:
            names = [name for name, period in self._periods.items() if day in period]
        for name in names:
            self._visits[name] += counts.visits
            self._pageviews[name] += counts.pageviews
            if name in self._visitors:
                self._visitors[name] += counts.visitors

    def encoded(self, current: int | None, as_of_ms: int) -> bytes:
        """All but the pages, as JSON; written anew when a number or the second is another.

        `current` is None where it is not known.
        """
        key = (current, as_of_ms // 1000)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = key, encode(self.as_dict(current, as_of_ms))
        return self._encoded[1]

    def as_dict(self, current: int | None, as_of_ms: int) -> dict[str, Any]:
        """All but the pages, ready for JSON."""
        return {
            "site": self.site.domain,
            "as_of": timestamp(as_of_ms),
            "current": {
                "visitors": current,
                "window_seconds": self.site.window_seconds,
                "peak": _peak(self.peak),
                "peak_today": _peak(self.peak_today),
            },
            "visits": self._visits,
            "pageviews": self._pageviews,
            "visitors": self._visitors,
            "engagement_seconds": engagement_seconds(self.site),
        }


def _peak(peak: Peak | None) -> dict[str, Any]:
    if peak is None:
        return {"visitors": 0, "at": None}
    return {"visitors": peak.visitors, "at": timestamp(peak.at_ms)}


def engagement_seconds(site: Site) -> int:
    """How often a visible page should report, so that two reports can be late and a reader stays current."""
    return max(1, site.window_seconds * 2 // 5)


def without_numbers(site: Site, as_of_ms: int) -> dict[str, Any]:
    """For an event of a private site, and where totals can't be read: a wrong number is never sent."""
    return {
        "site": site.domain,
        "as_of": timestamp(as_of_ms),
        "engagement_seconds": engagement_seconds(site),
    }


def page_dict(totals: PageTotals, current: int | None) -> dict[str, int | None]:
    return {"visits": totals.visits, "pageviews": totals.pageviews, "current": current}


def encode(totals: Mapping[str, Any]) -> bytes:
    return orjson.dumps(totals)


def with_pages(encoded: bytes, pages: Mapping[str, Any]) -> bytes:
    """Encoded totals with `pages` put in; so the site's part is encoded once for all its pages."""
    return encoded[:-1] + b',"pages":' + orjson.dumps(pages) + b"}"
