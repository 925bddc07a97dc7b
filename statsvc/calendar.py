"""The site's own calendar: in which local hour and day a moment lies, and what "this week" means.

Pure, and free of arithmetic with offsets: a day is a date on the site's wall, so days of 23 and 25
hours, half-hour zones and midnights that are skipped need no special case.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

# Since 1972 every zone's offset, and every change of one, has been a multiple of a quarter of an hour.
# So one UTC quarter lies in one local hour, and a day of events needs 96 conversions and not one each.
QUARTER_MS = 15 * 60 * 1000


class LocalHour(NamedTuple):
    """One hour on the site's wall."""

    day: str
    """The local date, as YYYY-MM-DD."""
    start: int
    """When this hour began, in seconds since the epoch (UTC): unique also where an hour comes twice."""
    day_start_ms: int
    """When this local day began, in milliseconds since the epoch."""
    day_before: str
    day_after: str


def local_hour(zone: ZoneInfo, at_ms: int) -> LocalHour:
    """The local hour in which `at_ms` (milliseconds since the epoch, UTC) lies."""
    return _quarter_hour(zone, at_ms // QUARTER_MS)


@lru_cache(maxsize=4096)
def _quarter_hour(zone: ZoneInfo, quarter: int) -> LocalHour:
    local = datetime.fromtimestamp(quarter * QUARTER_MS // 1000, zone)
    hour = local.replace(minute=0, second=0, microsecond=0)
    midnight = datetime(local.year, local.month, local.day, tzinfo=zone)
    day = local.date().isoformat()
    return LocalHour(
        day=day,
        start=int(hour.timestamp()),
        day_start_ms=int(midnight.timestamp()) * 1000,
        day_before=neighbour(day, -1),
        day_after=neighbour(day, 1),
    )


def neighbour(day: str, days: int) -> str:
    """The date `days` after `day` (before, where negative)."""
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


class Period(NamedTuple):
    """Local dates from `first` to `last`, both included; ISO dates compare as text."""

    first: str
    last: str

    def __contains__(self, day: object) -> bool:
        return isinstance(day, str) and self.first <= day <= self.last


PERIODS = ("today", "yesterday", "this_week", "last_week", "this_month", "last_month", "this_year")


def periods(today: str) -> dict[str, Period]:
    """The periods a portal shows, by name, as seen on `today`. Weeks begin on Monday (ISO 8601)."""
    day = date.fromisoformat(today)
    monday = day - timedelta(days=day.weekday())
    first = day.replace(day=1)
    before_first = first - timedelta(days=1)

    def span(start: date, end: date) -> Period:
        return Period(start.isoformat(), end.isoformat())

    return {
        "today": span(day, day),
        "yesterday": span(day - timedelta(days=1), day - timedelta(days=1)),
        "this_week": span(monday, day),
        "last_week": span(monday - timedelta(days=7), monday - timedelta(days=1)),
        "this_month": span(first, day),
        "last_month": span(before_first.replace(day=1), before_first),
        "this_year": span(day.replace(month=1, day=1), day),
    }


def timestamp(at_ms: int) -> str:
    """A moment as RFC 3339 in UTC, to the second: 2026-11-23T06:41:45Z."""
    return _timestamp(at_ms // 1000)


@lru_cache(maxsize=4096)
def _timestamp(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
