from functools import partial

import orjson
from hypothesis import given
from hypothesis import strategies as st

from statsvc.calendar import PERIODS, neighbour, periods
from statsvc.model import DayCounts, History, PageTotals, Peak
from statsvc.totals import SiteTotals, encode, engagement_seconds, with_pages, without_numbers
from tests.facts import NOON_MS, SITE

TODAY = "2026-11-23"
EMPTY = History(PageTotals(0, 0), PageTotals(0, 0), {}, None, None)
DAYS = st.dictionaries(
    st.integers(-400, 0).map(lambda offset: neighbour(TODAY, offset)),
    st.builds(DayCounts, st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)),
    max_size=30,
)


@given(DAYS, st.integers(-50, 2_000_000))
def test_adding_is_the_same_as_reading_again(days, baseline):
    """Totals kept by adding commits equal those read from the history afterwards, for any history."""
    total = PageTotals(sum(c.visits for c in days.values()), sum(c.pageviews for c in days.values()))
    read = SiteTotals(
        SITE, TODAY, EMPTY._replace(total=total, days=days, baseline=PageTotals(baseline, baseline))
    )
    added = SiteTotals(SITE, TODAY, EMPTY._replace(baseline=PageTotals(baseline, baseline)))
    for day, counts in days.items():
        added.add(day, counts)
    assert added.as_dict(0, NOON_MS) == read.as_dict(0, NOON_MS)
    shown = read.as_dict(0, NOON_MS)
    assert shown["visits"]["total"] == baseline + total.visits
    for name, period in periods(TODAY).items():
        assert shown["pageviews"][name] == sum(c.pageviews for day, c in days.items() if day in period)


def test_encoded_totals_are_those_of_now():
    """They are held for as long as nothing is another: no number, nor the second."""
    totals = SiteTotals(SITE, TODAY, EMPTY)
    assert totals.encoded(7, NOON_MS) is totals.encoded(7, NOON_MS + 999)
    changes = (
        partial(totals.add, TODAY, DayCounts(1, 1, 1)),
        partial(totals.see_peak, TODAY, Peak(8, NOON_MS)),
    )
    for change in changes:
        change()
        for now in ((7, NOON_MS), (8, NOON_MS), (8, NOON_MS + 1000), (7, NOON_MS)):
            assert totals.encoded(*now) == encode(totals.as_dict(*now))


def test_the_first_day_needed_covers_every_period():
    """In January that is a day of the year before."""
    for today in ("2026-01-01", "2026-01-31", "2026-03-01", TODAY):
        first = SiteTotals.first_day_needed(today)
        assert all(period.first >= first for period in periods(today).values())
    assert SiteTotals.first_day_needed("2027-01-02") == "2026-12-01"


def test_peaks_rise_and_keep_their_first_moment():
    """The day's peak and the all-time one are told apart; another day's does not touch today's."""
    totals = SiteTotals(SITE, TODAY, EMPTY._replace(peak=Peak(10, 1000)))
    totals.see_peak(TODAY, Peak(3, 2000))
    totals.see_peak(TODAY, Peak(3, 3000))
    assert (totals.peak, totals.peak_today) == (Peak(10, 1000), Peak(3, 2000))
    totals.see_peak("2026-11-22", Peak(11, 4000))
    assert (totals.peak, totals.peak_today) == (Peak(11, 4000), Peak(3, 2000))


def test_pages_are_put_into_encoded_totals():
    """What is written once for the site is valid JSON with the pages in it."""
    totals = SiteTotals(SITE, TODAY, EMPTY).as_dict(7, NOON_MS)
    pages = {'/a"\\': {"visits": 1, "pageviews": 2, "current": 3}}
    assert orjson.loads(with_pages(encode(totals), pages)) == totals | {"pages": pages}
    assert set(totals["visits"]) == {"total", *PERIODS}


def test_a_reader_reports_often_enough_to_stay_current():
    """Two reports fit into the window, whatever it is."""
    for window in (1, 2, 3, 10, 300, 86_400):
        site = type(SITE)(id=1, domain="x.vn", window_seconds=window)
        assert 1 <= engagement_seconds(site) <= max(1, window / 2)


def test_where_numbers_cannot_be_told_there_are_none():
    """Neither zero nor null: the box keeps what it shows."""
    assert set(without_numbers(SITE, NOON_MS)) == {"site", "as_of", "engagement_seconds"}
