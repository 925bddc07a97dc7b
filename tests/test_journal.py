"""Records of open visits, as stores have them: by bytes, as an older version or a bad disk left them."""

import msgspec
import pytest

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
        visits = {visit.visitor: visit.paths for visit in folded.visits[PEOPLE]}
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
    assert [visit.at for visit in journal.fold([record], 5, at).visits[PEOPLE]] == [at.steady_ms]
