"""What waits, added to what was read: the same sums for a file's journal and for an outbox."""

from hypothesis import given
from hypothesis import strategies as st

from statsvc.model import DayCounts, History, PageTotals, Peak
from statsvc.stores.outbox.sums import Sums
from statsvc.tally import Tally
from tests.facts import NOON_MS

FIRST_DAY, TODAY = "2026-11-22", "2026-11-23"
READ = History(PageTotals(50, 60), PageTotals(7, 8), {TODAY: DayCounts(5, 6, 4)}, Peak(3, 1), None)
COUNTS = st.tuples(
    st.sampled_from(["2026-11-21", FIRST_DAY, TODAY]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)
)


def a_tally(day: str, visits: int, pageviews: int, visitors: int) -> Tally:
    """Of site 1, and the same of its bots and of another site."""
    counts = [visits, pageviews, visitors]
    return Tally(
        days={(1, day, False): counts, (1, day, True): counts, (2, day, False): counts},
        pages={(1, day, "/a"): [visits, pageviews], (2, day, "/a"): [visits, pageviews]},
    )


@given(st.lists(COUNTS, max_size=8), st.integers(0, 8))
def test_what_was_taken_is_not_added(batches, taken):
    """People's counts of the batches that still wait are added, however many were there before."""
    sums = Sums()
    tallies = [a_tally(*counts) for counts in batches]
    for tally in tallies:
        sums.add(tally)
    for tally in tallies[:taken]:
        sums.take(tally)
    left = batches[taken:]
    visits, pageviews = (sum(counts[column] for counts in left) for column in (1, 2))
    (history,) = sums.to_histories([READ], [(1, FIRST_DAY, TODAY)])
    assert history.total == PageTotals(50 + visits, 60 + pageviews)
    assert history.baseline == READ.baseline
    for day in (FIRST_DAY, TODAY):
        known = READ.days.get(day, DayCounts(0, 0, 0))
        of_day = [counts[1:] for counts in left if counts[0] == day]
        assert list(history.days.get(day, DayCounts(0, 0, 0))) == [
            sum(column) for column in zip(known, *of_day, strict=True)
        ]
    assert history.days.keys() <= {FIRST_DAY, TODAY}
    pages = sums.to_pages({(1, "/b"): PageTotals(1, 1)}, [(1, "/a"), (1, "/b"), (1, "/a")])
    assert pages.get((1, "/a"), PageTotals(0, 0)) == PageTotals(visits, pageviews)
    assert pages[1, "/b"] == PageTotals(1, 1)


def test_the_highest_peak_is_told_wherever_it_is():
    """The peak of all time and that of today, each the higher of what was read and what waits; also taken."""
    sums = Sums()
    before = Tally(peaks={(1, FIRST_DAY): Peak(9, NOON_MS), (1, TODAY): Peak(2, NOON_MS)})
    sums.add(before)
    sums.take(before)
    (history,) = sums.to_histories([READ], [(1, TODAY, TODAY)])
    assert (history.peak, history.peak_today) == (Peak(9, NOON_MS), Peak(2, NOON_MS))
