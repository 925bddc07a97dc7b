import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc import ids as ids_module
from statsvc.ids import FEW, PARTS, Ids, IdTable

# Small ones, and such as meet in one part.
ONE = st.one_of(st.integers(0, 50), st.integers(0, 40).map(lambda number: number * PARTS))
IDS = st.lists(ONE)


@pytest.mark.parametrize("few", [3, FEW], ids=["in parts", "few"])
@given(added=IDS, asked=IDS)
def test_it_is_a_set(few, added, asked):
    """Whatever is added, in whatever order: each is new once, and what is there is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids_module, "FEW", few)
        ids, known = Ids(), set[int]()
        for one in added:
            assert ids.add(one) is (one not in known)
            known.add(one)
        assert len(ids) == len(known)
        assert [one in ids for one in asked] == [one in known for one in asked]
        assert len(Ids(added)) == len(known)


def test_many_take_little_memory():
    """Less than a third of what they take in a set."""
    many = range(0, 2**60, 2**60 // 100_000)
    parts = Ids(many)._parts
    size = sum(map(sys.getsizeof, parts))
    assert size < (sys.getsizeof(set(many)) + sum(map(sys.getsizeof, many))) / 3


@given(few=IDS, steps=st.lists(st.tuples(ONE, st.integers(0, 3))))
def test_a_table_has_a_number_for_each(few, steps):
    """Whatever is set, asked for and taken out, in whatever order."""
    known = {one: one + 1 for one in few}
    table = IdTable(known.items())
    for one, number in steps:
        if number:
            assert table.swap(one, number) == known.get(one)
            known[one] = number
        else:
            assert table.pop(one, None) == known.pop(one, None)
        assert table.get(one) == known.get(one)
        assert (one in table) is (one in known)
        assert len(table) == len(known)
        assert sorted(table.items()) == sorted(known.items())
