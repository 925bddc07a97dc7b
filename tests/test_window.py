import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.window import Window

TOUCHES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 50)), max_size=200)


@given(TOUCHES, st.integers(1, 120))
def test_equals_a_naive_list_of_timestamps(touches, length):
    """At every moment the window holds exactly the keys that a list of all timestamps says are in it."""
    window, timestamps, now = Window(), [], 0
    for key, passed in touches:
        now += passed
        list(window.expire(now - length))
        window.put(key, now, key % 3)
        timestamps.append((now, key))
        naive = {key for at, key in timestamps if now - at < length}
        assert {key for key, _, _ in window} == naive
        assert len(window) == len(naive)
        for there in naive:
            last = max(at for at, other in timestamps if other == there)
            assert window.get(there) == (last, there % 3)


@given(TOUCHES)
def test_expires_oldest_first_and_each_key_once(touches):
    """What expires comes in the order in which it was last seen, and is then gone."""
    window, now = Window(), 0
    last: dict[int, int] = {}
    for key, passed in touches:
        now += passed
        window.put(key, now)
        last.pop(key, None)
        last[key] = now
    assert [(key, at) for key, at, _ in window.expire(now)] == list(last.items())
    assert len(window) == 0


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


def test_a_million_visitors_cost_about_150_bytes_each():
    """Memory for a million visitors, ids and times included."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    window, tag_of_a_busy_site = Window(), 1000
    for number in range(1_000_000):
        window.put((number * 0x9E3779B97F4A7C15) & (2**60 - 1), 10**11 + number, tag_of_a_busy_site)
    bytes_a_visitor = (tracemalloc.get_traced_memory()[0] - before) / 1_000_000
    tracemalloc.stop()
    assert bytes_a_visitor < 156


class CountingDict(OrderedDict[int, int]):
    """Counts what is done to it."""

    steps = 0

    def __getitem__(self, key):
        self.steps += 1
        return super().__getitem__(key)

    def __delitem__(self, key):
        self.steps += 1
        super().__delitem__(key)

    def __iter__(self):
        self.steps += 1
        return super().__iter__()


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
