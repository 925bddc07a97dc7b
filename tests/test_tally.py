from collections import Counter
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from statsvc.model import Peak, Touch
from statsvc.tally import Tally, fold
from tests.facts import NOON_MS, FakeClock, hit

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["/", "/a"]),
        st.sampled_from(["pageview", "engagement", "Tải về"]),
        st.booleans(),
        st.builds(Touch, st.booleans(), st.booleans(), st.booleans()),
        st.integers(0, 7200),
    ),
    max_size=40,
)


def _add(total: dict[str, Counter[Any]], tally: Tally) -> None:
    for field in ("hours", "days", "pages"):
        for key, counts in getattr(tally, field).items():
            for place, count in enumerate(counts):
                assert type(count) is int  # a bool is no number in JSON
                total.setdefault(field, Counter())[*key, place] += count
    total.setdefault("names", Counter()).update(tally.names)
    for key, visitors in tally.newcomers.items():
        total.setdefault("newcomers", Counter()).update((*key, visitor) for visitor in visitors)


@given(EVENTS, st.lists(st.integers(0, 40)))
def test_any_split_into_batches_adds_up_to_the_same(events, cuts):
    """It makes no difference to the counts which events happen to be committed together."""
    clock = FakeClock(NOON_MS)
    hits = [
        hit(clock.advance(passed), who, path, name, bot=bot) for who, path, name, bot, _, passed in events
    ]
    touches = [touch for *_, touch, _ in events]
    whole: dict[str, Counter[Any]] = {}
    _add(whole, fold(hits, touches, {}))
    parts: dict[str, Counter[Any]] = {}
    edges = sorted({0, len(hits), *(cut for cut in cuts if cut < len(hits))})
    for begin, end in pairwise(edges):
        _add(parts, fold(hits[begin:end], touches[begin:end], {}))
    assert {k: +v for k, v in whole.items() if +v} == {k: +v for k, v in parts.items() if +v}


def test_only_pageviews_are_pageviews_and_every_event_is_an_event():
    """Engagement and custom events keep a visit going; they are no pageviews."""
    now = FakeClock(NOON_MS).now()
    first, later = Touch(True, True, True), Touch(False, False, False)
    hits = [hit(now), hit(now, name="engagement"), hit(now, name="Tải về"), hit(now, bot=True)]
    tally = fold(hits, [first, later, later, first], {(1, "2026-11-23"): Peak(1, NOON_MS)})
    assert tally.days == {(1, "2026-11-23", False): [1, 1, 1], (1, "2026-11-23", True): [1, 1, 1]}
    assert list(tally.hours.values()) == [[1, 1, 3], [1, 1, 1]]
    assert tally.pages == {(1, "2026-11-23", "/"): [1, 1]}
    assert tally.names[1, "2026-11-23", False, "Tải về"] == 1
    assert tally.peaks == {(1, "2026-11-23"): Peak(1, NOON_MS)}
