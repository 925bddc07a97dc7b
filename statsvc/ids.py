"""A set and a table of ids that take little memory: a day's visitors are a million and more."""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator

FEW = 10_000
"""Up to so many are a Python set, which is faster, and takes 60 to 100 bytes for each."""
PARTS = 1024
WORD = "L" if array("L").itemsize == 8 else "Q"
"""Arrays' type of 64 bits: where a C long has them, CPython takes 22 ns to append one to it, and 55 else."""


class Ids:
    """Ids of 60 random bits, 9 bytes each where they are many. None is ever taken out.

    They lie in sorted arrays, one for each remainder: to add one moves some kilobytes in the worst case,
    and never all of them.
    """

    __slots__ = ("_few", "_parts")

    def __init__(self, ids: Collection[int] = ()) -> None:
        few = len(ids) <= FEW
        self._few = set(ids) if few else set[int]()
        self._parts = [] if few else _parted(ids)

    def __len__(self) -> int:
        return len(self._few) + sum(map(len, self._parts))

    def __contains__(self, one: int) -> bool:
        if not self._parts:
            return one in self._few
        part = self._parts[one % PARTS]
        place = bisect_left(part, one)
        return place < len(part) and part[place] == one

    def add(self, one: int) -> bool:
        """Whether it is new."""
        if not self._parts:
            if one in self._few:
                return False
            self._few.add(one)
            if len(self._few) > FEW:
                self._few, self._parts = set(), _parted(self._few)
            return True
        part = self._parts[one % PARTS]
        place = bisect_left(part, one)
        if place < len(part) and part[place] == one:
            return False
        part.insert(place, one)
        return True


class IdTable:
    """A number below 2**63 for each id, 17 bytes for both where they are many.

    It lies as `Ids` do, the numbers in arrays beside those of the ids.
    """

    __slots__ = ("_length", "_numbers", "_parts")

    def __init__(self, numbers: Iterable[tuple[int, int]]) -> None:
        # In arrays, so that what is sorted together lies together, in the processor's caches.
        unsorted = [array(WORD) for _ in range(PARTS)]
        for one, number in numbers:
            part = unsorted[one % PARTS]
            part.append(one)
            part.append(number)
        self._parts, self._numbers = [], []
        for part in unsorted:
            of_part = dict(zip(part[::2], part[1::2], strict=True))
            ids = sorted(of_part)
            self._parts.append(array(WORD, ids))
            self._numbers.append(array(WORD, map(of_part.__getitem__, ids)))
        self._length = sum(map(len, self._parts))

    def __len__(self) -> int:
        return self._length

    def __contains__(self, one: int) -> bool:
        return self.get(one) is not None

    def items(self) -> Iterator[tuple[int, int]]:
        """In no order."""
        for part, numbers in zip(self._parts, self._numbers, strict=True):
            yield from zip(part, numbers, strict=True)

    def get(self, one: int) -> int | None:
        part = self._parts[one % PARTS]
        place = bisect_left(part, one)
        if place < len(part) and part[place] == one:
            return self._numbers[one % PARTS][place]
        return None

    def __setitem__(self, one: int, number: int) -> None:
        self.swap(one, number)

    def swap(self, one: int, number: int) -> int | None:
        """Set its number; tells what `get` did before."""
        part, numbers = self._parts[one % PARTS], self._numbers[one % PARTS]
        place = bisect_left(part, one)
        if place < len(part) and part[place] == one:
            former = numbers[place]
            numbers[place] = number
            return former
        part.insert(place, one)
        numbers.insert(place, number)
        self._length += 1
        return None

    def pop(self, one: int, default: None) -> int | None:
        part = self._parts[one % PARTS]
        place = bisect_left(part, one)
        if place < len(part) and part[place] == one:
            del part[place]
            self._length -= 1
            return self._numbers[one % PARTS].pop(place)
        return default


def _parted(ids: Iterable[int]) -> "list[array[int]]":
    parts = [array(WORD) for _ in range(PARTS)]  # arrays, as in `IdTable`
    for one in ids:
        parts[one % PARTS].append(one)
    return [array(WORD, sorted(set(part))) for part in parts]
