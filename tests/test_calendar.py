from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.calendar import PERIODS, local_hour, neighbour, periods, timestamp
from tests.facts import wall_ms

ZONES = [
    "UTC",
    "Asia/Ho_Chi_Minh",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",  # half an hour
    "Asia/Kathmandu",  # a quarter
    "Australia/Lord_Howe",  # DST of half an hour
    "Pacific/Apia",  # a day that never was
    "America/Sao_Paulo",  # midnight skipped
    "Africa/Casablanca",
    "America/St_Johns",
]
MOMENTS = st.integers(wall_ms("1990-01-01", "UTC"), wall_ms("2037-12-31", "UTC"))


@given(st.sampled_from(ZONES), MOMENTS)
def test_the_local_day_is_zoneinfos(zone, at_ms):
    """Over half a century, in zones of every kind, an event lies in the day on the wall."""
    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
    hour = local_hour(ZoneInfo(zone), at_ms)
    assert hour.day == local.date().isoformat()
    assert hour.start * 1000 <= at_ms
    started = datetime.fromtimestamp(hour.start, ZoneInfo(zone))
    assert (started.date(), started.hour) == (local.date(), local.hour)
    assert hour.day_start_ms <= hour.start * 1000


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("America/Sao_Paulo", "2018-11-04", 23),
        ("Asia/Ho_Chi_Minh", "2026-11-23", 24),
        ("Asia/Kolkata", "2026-11-23", 24),
    ],
)
def test_days_of_23_and_25_hours_are_whole(zone, day, hours):
    """Each hour of a DST day is told apart, also the one that comes twice."""
    info = ZoneInfo(zone)
    noon = wall_ms(f"{day} 12:00", zone)
    quarters = [local_hour(info, noon + n * 900_000) for n in range(-60, 60)]
    of_day = {hour.start for hour in quarters if hour.day == day}
    assert len(of_day) == hours
    assert {hour.day_start_ms for hour in quarters if hour.day == day} == {min(of_day) * 1000}


def test_half_hour_zones_have_their_own_hours():
    """In India an hour begins half past the hour of UTC."""
    hour = local_hour(ZoneInfo("Asia/Kolkata"), wall_ms("2026-11-23 09:10", "Asia/Kolkata"))
    assert hour.start % 3600 == 1800


@given(st.dates(date(1990, 1, 1), date(2040, 1, 1)))
def test_periods_are_the_calendars(day):
    """Every period holds exactly the days that the calendar says, for every day there is."""
    spans = periods(day.isoformat())
    assert tuple(spans) == PERIODS
    for offset in range(-75, 2):
        other = day + timedelta(days=offset)
        monday = day - timedelta(days=day.weekday())
        last_month = (day.replace(day=1) - timedelta(days=1)).replace(day=1)
        expected = {
            "today": other == day,
            "yesterday": other == day - timedelta(days=1),
            "this_week": monday <= other <= day,
            "last_week": monday - timedelta(days=7) <= other < monday,
            "this_month": (other.year, other.month) == (day.year, day.month) and other <= day,
            "last_month": (other.year, other.month) == (last_month.year, last_month.month),
            "this_year": other.year == day.year and other <= day,
        }
        assert {name: other.isoformat() in span for name, span in spans.items()} == expected


def test_neighbour_crosses_the_year():
    """The day after the last of the year is the first of the next."""
    assert neighbour("2026-12-31", 1) == "2027-01-01"
    assert neighbour("2027-01-01", -1) == "2026-12-31"


def test_timestamp_is_rfc_3339():
    """Moments are told in UTC, to the second."""
    assert timestamp(wall_ms("2026-11-23 13:41:45.9")) == "2026-11-23T06:41:45Z"
