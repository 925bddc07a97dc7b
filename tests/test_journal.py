"""Records of open visits, as stores have them: by bytes, as an older version or a bad disk left them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.errors import StoreDamaged
from statsvc.model import Moment
from statsvc.presence import journal
from tests.facts import NOON_MS, SITE, FakeClock, hit

PEOPLE = (SITE.id, False)


def entry(visitor: int, pages: list[int]) -> list[object]:
    return [SITE.id, False, visitor, NOON_MS, 10**11, pages, ()]


def test_what_an_older_version_wrote_is_read(clock: FakeClock):
    """It listed a batch's paths, and visits named their places in the list."""
    old = msgspec.msgpack.encode([5, ["/a", "/b"], [entry(1, [0, 1]), entry(2, [1])]])
    new = journal.write(5, [(PEOPLE, hit(clock.now(), 2), [70, 3])], {3: "/c", 70: "/b"})
    for process in (5, 6):
        folded = journal.fold([old, new], process, clock.now())
        visits = {visitor: paths for visitor, _, paths in folded.visits[PEOPLE]}
        assert visits == {1: ("/a", "/b"), 2: ("/b", "/c")}


def test_a_record_has_the_paths_that_occur_and_no_other(clock: FakeClock):
    """However many pages a process knows."""
    paths = [f"/{page}" for page in range(1000)]
    record = journal.write(5, [(PEOPLE, hit(clock.now(), 2), [999, 7])], paths)
    assert b"/999" in record
    assert b"/7" in record
    assert record.count(b"/") == 2


@pytest.mark.parametrize("paths", [["/a"], {0: "/a"}], ids=["a list", "by number"])
@pytest.mark.parametrize("pages", [[0, 1], [-1], []], ids=["beyond", "before", "none"])
def test_a_visit_of_a_page_that_is_not_there_is_damage(paths, pages, clock: FakeClock):
    """Nothing is guessed: the record is said to be unreadable."""
    record = msgspec.msgpack.encode([5, paths, [entry(1, [0]), entry(2, pages)]])
    with pytest.raises(StoreDamaged):
        journal.fold([record], 5, clock.now())


def test_bytes_that_are_cut_or_changed_are_never_a_traceback(clock: FakeClock):
    """Each length, and each byte overwritten: a record is read, or said to be unreadable."""
    touched = [(PEOPLE, hit(clock.now(), 2), [7, 3]), (PEOPLE, hit(clock.now(), 9, formerly=(1,)), [3])]
    record = journal.write(5, touched, {3: "/c", 7: "/b"})
    unread = 0
    for place in range(len(record)):
        for other in (
            record[:place],
            *(record[:place] + bytes([to]) + record[place + 1 :] for to in (0, 7, 193)),
        ):
            try:
                journal.fold([other], 5, clock.now())
            except StoreDamaged:
                unread += 1
    assert unread > len(record)


def test_times_after_2039_are_times():
    """Milliseconds since 1970 have 42 bits then, as have those of a fleet's steady clock."""
    at = Moment(2**41 + 5, 2**41 + 5)
    record = journal.write(5, [(PEOPLE, hit(at, 2), [0])], ["/a"])
    assert list(journal.fold([record], 5, at).visits[PEOPLE].at) == [at.steady_ms]


@pytest.mark.parametrize("stepped_seconds", [60, -(2**31)], ids=["ahead", "years behind"])
def test_a_wall_clock_that_was_set_puts_nobody_outside_of_time(stepped_seconds, clock: FakeClock):
    """Who was seen by another process is as old as the wall clock says, but not younger than now."""
    now = clock.now()
    seen = Moment(max(0, now.wall_ms + stepped_seconds * 1000), 5)
    record = journal.write(5, [(PEOPLE, hit(seen, 2), [0])], ["/a"])
    at = now.steady_ms if stepped_seconds > 0 else 0
    assert list(journal.fold([record], 6, now).visits[PEOPLE].at) == [at]


Seen = tuple[int, int, bool, int]
"""Which process, which visitor, whether with another id before, how many seconds later than the one before."""


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.booleans(), st.integers(1, 9)), min_size=1)
)
def test_of_all_processes_the_latest_entry_of_a_visitor_holds(seen: list[Seen]):
    """In whatever order what they wrote was committed; nobody is left under an id that was given up."""
    clock = FakeClock(NOON_MS)
    records: dict[int, list[bytes]] = {}
    expected: dict[int, tuple[int, tuple[str, ...]]] = {}
    for number, (process, visitor, changes, passed) in enumerate(seen):
        clock.advance(passed)
        formerly = (visitor + 1,) if changes else ()
        now = hit(clock.now(), visitor, formerly=formerly)
        record = journal.write(process, [(PEOPLE, now, [0])], [f"/{number}"])
        records.setdefault(process, []).append(record)
        expected[visitor] = now.at.wall_ms, (f"/{number}",)
        if changes:
            expected.pop(visitor + 1, None)
    committed = [record for process in sorted(records) for record in records[process]]
    ago = clock.now().wall_ms - clock.now().steady_ms
    folded = journal.fold(committed, 9, clock.now())
    assert {visitor: (at + ago, paths) for visitor, at, paths in folded.visits[PEOPLE]} == expected
