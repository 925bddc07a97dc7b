import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc import window as window_module
from statsvc.window import FEW, Window

# Of one span of time, and of many.
PASSED = st.one_of(st.integers(0, 50), st.integers(0, 500))
TOUCHES = st.lists(st.tuples(st.integers(0, 9), PASSED, st.booleans()), max_size=200)


@pytest.fixture(params=[3, FEW], ids=["many", "few"])
def few(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_module, "FEW", request.param)
        yield


@given(touches=TOUCHES, length=st.one_of(st.integers(1, 120), st.integers(1, 3000)))
def test_equals_a_naive_list_of_timestamps(few, touches, length):
    """At every moment the window holds exactly the keys that a list of all timestamps says are in it."""
    window, now = Window(), 0
    last: dict[int, tuple[int, int]] = {}
    for place, (key, passed, taken) in enumerate(touches):
        now += passed
        over = [(*last.pop(other), other) for other, (at, _) in list(last.items()) if now - at >= length]
        assert window.oldest() <= min([at for at, _, _ in over], default=now)
        gone = [(at, tag, other) for other, at, tag in window.expire(now - length)]
        assert [at for at, _, _ in gone] == sorted(at for at, _, _ in over)
        assert sorted(gone) == sorted(over)
        if taken:
            assert window.take(key) == last.pop(key, None)
        assert window.put(key, now, place % 3) == last.get(key)
        last[key] = (now, place % 3)
        held = list(window)
        assert {other: (at, tag) for other, at, tag in held} == last
        assert [at for _, at, _ in held] == sorted(at for at, _ in last.values())
        assert len(window) == len(held) == len(last)
        assert all(window.get(other) == last.get(other) for other in range(10))


@given(touches=TOUCHES, passed=PASSED)
def test_one_that_is_filled_goes_on_as_the_one_it_was_filled_from(few, touches, passed):
    """Whatever was put, and in whatever order it is filled in: the same is held, and leaves at the same time."""
    window, now = Window(), 0
    for place, (key, passed_before, _) in enumerate(touches):
        now += passed_before
        window.put(key, now, place % 3)
    held = sorted(window)
    filled = Window()
    filled.fill([key for key, _, _ in held], [at for _, at, _ in held], [tag for _, _, tag in held])
    assert sorted(filled) == held
    assert filled.put(3, 0) == window.put(3, 0)
    assert sorted(filled) == sorted(window)
    assert filled.oldest() <= min([at for _, at, _ in filled])
    assert sorted(filled.expire(now - passed)) == sorted(window.expire(now - passed))
    assert len(filled) == len(window)


def test_time_that_goes_back_counts_as_the_newest():
    """A time before the newest seen does not put a key out of order."""
    window = Window()
    window.put(1, 100)
    window.put(2, 50)
    assert window.get(2) == (100, 0)
    assert [key for key, _, _ in window.expire(99)] == []


def test_take_removes_and_tells():
    """A key that is taken is told once."""
    window = Window()
    window.put(7, 5, 3)
    assert window.take(7) == (5, 3)
    assert window.take(7) is None
    assert 7 not in window


def test_a_million_visitors_cost_about_34_bytes_each():
    """Memory for a million visitors, ids and times included."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    window, tag_of_a_busy_site = Window(), 1000
    for number in range(1_000_000):
        key = (number * 0x9E3779B97F4A7C15) & (2**60 - 1)
        window.put(key, 10**11 + number // 10, tag_of_a_busy_site)
    bytes_a_visitor = (tracemalloc.get_traced_memory()[0] - before) / 1_000_000
    tracemalloc.stop()
    assert bytes_a_visitor < 36


def test_who_comes_back_all_the_time_takes_no_more_memory():
    """What is held is bounded by the visitors, not by their events."""
    window = Window()
    for now in range(100_000):
        list(window.expire(now - 5000))
        window.put(now % 100, now)
    assert len(window._opened) + sum(map(len, window._spans.values())) / 2 <= 100


class CountingDict(dict[int, int]):
    """Counts what is done to it."""

    steps = 0

    def get(self, key, default=None):
        self.steps += 1
        return super().get(key, default)

    def pop(self, key, default=None):
        self.steps += 1
        return super().pop(key, default)

    def __setitem__(self, key, entry):
        self.steps += 1
        super().__setitem__(key, entry)


@pytest.mark.parametrize("keys", [10, 100_000])
def test_a_touch_is_a_few_steps_however_large_the_window(keys):
    """Expiring with every touch, as is done, takes O(1) steps a touch in all, also when all expire at once."""
    window = Window()
    window._entries = counting = CountingDict()
    touches = 0
    for now in [*range(keys), 10 * keys, *range(10 * keys, 10 * keys + 100)]:
        assert sum(1 for _ in window.expire(now - keys)) <= keys
        window.put(now % keys, now)
        touches += 1
    assert counting.steps <= 5 * touches


def test_a_time_after_2039_is_no_tag(few):
    """A fleet's steady clock counts milliseconds from 1970: they have 42 bits then."""
    window = Window()
    for key in range(5):
        window.put(key, 2**41 + key, tag=key)
    assert list(window) == [(key, 2**41 + key, key) for key in range(5)]
    assert list(window.expire(2**41 + 1)) == [(0, 2**41, 0), (1, 2**41 + 1, 1)]
