from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from statsvc.model import Identity
from statsvc.visits import LONGEST_TRAIL, OpenVisits, Pages, Visits

WINDOW, GAP = 300, 1800


class NaiveVisits:
    """The definitions, word by word, over a list of all events."""

    def __init__(self, window: int, gap: int) -> None:
        self.window, self.gap = window, gap
        self.events: list[tuple[int, int, str]] = []

    def touch(self, visitor: int, path: str, at: int) -> tuple[bool, bool]:
        visit_began, seen, last = at, set(), None
        for event_at, who, where in self.events:
            if who == visitor:
                if last is not None and event_at - last >= self.gap:
                    seen = set()
                seen.add(where)
                last = event_at
        begins = last is None or visit_began - last >= self.gap
        begins_page = begins or path not in seen
        self.events.append((at, visitor, path))
        return begins, begins_page

    def current(self, now: int) -> dict[int, str]:
        return {who: where for at, who, where in self.events if now - at < self.window}


def _paths(visits: Visits, visitor: int) -> tuple[str, ...]:
    return tuple(visits.pages.paths[page] for page in visits.trail(visitor))


def _open(visits: Visits) -> list[tuple[int, int, tuple[str, ...]]]:
    """Every open visit, the one seen longest ago first."""
    return [
        (visitor, at, _paths(visits, visitor))
        for window in (visits._idle, visits._current)
        for visitor, at, _ in window
    ]


EVENTS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["/", "/a", "/b", "/c"]), st.integers(0, 900)), max_size=60
)


@given(EVENTS, st.sampled_from([(300, 1800), (1800, 300), (600, 600), (5, 60)]))
def test_visits_and_current_visitors_are_as_defined(events, settings):
    """Visits, visits of pages, current visitors of the site and of each page follow the definitions."""
    visits, naive, now = Visits(*settings), NaiveVisits(*settings), 1000
    for visitor, path, passed in events:
        now += passed
        assert visits.touch(Identity(visitor), path, now) == naive.touch(visitor, path, now)
        current = naive.current(now)
        assert visits.current() == len(current)
        for page in ("/", "/a", "/b", "/c"):
            assert visits.current_on(page) == list(current.values()).count(page)


@given(EVENTS, st.randoms(use_true_random=False))
@example([(1, "/b", 0), (1, "/", 0), (1, "/b", 0), (1, "/a", 0), (1, "/", 0), (1, "/a", 0)], Random(1))
def test_a_restart_knows_every_open_visit(events, chance):
    """Visits that were described, in any order, and restored go on exactly as those that never stopped."""
    visits, now = Visits(WINDOW, GAP), 1000
    for place, (visitor, path, passed) in enumerate(events):
        now += passed
        if place % 3 == 2:
            visits.expire(now)
            described = OpenVisits()
            for visit in chance.sample(_open(visits), len(visits)):
                described.add(*visit)
            restored = Visits(WINDOW, GAP)
            restored.restore(described, now)
            assert sorted(_open(restored)) == sorted(_open(visits))
            assert restored.current() == visits.current()
            for page in ("/", "/a", "/b", "/c"):
                assert restored.current_on(page) == visits.current_on(page)
            visits.touch(Identity(visitor), path, now)
            restored.touch(Identity(visitor), path, now)
            assert sorted(_open(restored)) == sorted(_open(visits))
            visits = restored
        else:
            visits.touch(Identity(visitor), path, now)


@given(EVENTS, st.integers(1, 2000), st.integers(1, 2000))
def test_other_settings_apply_to_open_visits(events, window, gap):
    """After a change of the window, current visitors are those the new window says."""
    visits, naive, now = Visits(5000, 5000), NaiveVisits(window, gap), 1000
    for visitor, path, passed in events:
        now += passed
        visits.touch(Identity(visitor), path, now)
        naive.touch(visitor, path, now)
    visits.resize(window, gap)
    visits.expire(now)
    current = naive.current(now)
    assert visits.current() == len(current)
    for page in ("/", "/a", "/b", "/c"):
        assert visits.current_on(page) == list(current.values()).count(page)


def test_a_visitor_goes_on_under_tomorrows_id():
    """At midnight the id changes; the visitor, the visit and its pages do not."""
    visits = Visits(WINDOW, GAP)
    visits.touch(Identity(1), "/a", 1000)
    visits.touch(Identity(1), "/b", 1010)
    assert visits.touch(Identity(2, formerly=(1,)), "/a", 1020) == (False, False)
    assert visits.current() == 1
    assert _paths(visits, 1) == ()
    assert _paths(visits, 2) == ("/b", "/a")


def test_an_unknown_former_id_is_no_visit():
    """Who was not here before midnight begins a visit after it."""
    visits = Visits(WINDOW, GAP)
    assert visits.touch(Identity(2, formerly=(1, 3)), "/", 1000) == (True, True)


def test_a_trail_is_bounded():
    """A visitor who sees more pages than are remembered costs no more memory, and pages are given back."""
    visits = Visits(WINDOW, GAP)
    for page in range(LONGEST_TRAIL * 3):
        visits.touch(Identity(1), f"/{page}", 1000)
    assert len(_paths(visits, 1)) == LONGEST_TRAIL
    assert len(visits.pages.paths) <= LONGEST_TRAIL + 1
    visits.expire(1000 + GAP)
    assert not visits
    assert visits._numbers == {}
    assert visits._trails == {}


@given(EVENTS)
def test_pages_of_closed_visits_are_forgotten(events):
    """When every visit is over nothing of it is held."""
    visits, now = Visits(WINDOW, GAP), 1000
    for visitor, path, passed in events:
        now += passed
        visits.touch(Identity(visitor), path, now)
    visits.expire(now + GAP)
    assert visits._numbers == {}
    assert visits._trails == {}
    assert not any(visits.pages.current)


def test_two_audiences_share_the_numbers_of_pages_and_nothing_else():
    """Each has current visitors of its own on a path that both have, and gives its own number back."""
    pages = Pages()
    people, bots = Visits(WINDOW, GAP, pages), Visits(WINDOW, GAP, pages)
    people.touch(Identity(1), "/a", 1000)
    bots.touch(Identity(1), "/a", 1000)
    bots.touch(Identity(2), "/a", 1100)
    assert (people.current_on("/a"), bots.current_on("/a")) == (1, 2)
    assert people.trail(1) != bots.trail(1)
    people.expire(1000 + GAP)
    assert _paths(bots, 2) == ("/a",)
    people.touch(Identity(3), "/b", 1000 + GAP)
    assert (_paths(people, 3), _paths(bots, 2)) == (("/b",), ("/a",))
    assert len(pages.paths) == 2
