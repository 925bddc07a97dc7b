"""The sliding window: who was seen lately, in order of when."""

from collections import OrderedDict
from collections.abc import Iterator

# One int holds both when and where: a tuple would cost 72 bytes a visitor more. 2**41 ms are 69 years.
_AT_BITS = 41
_AT_MASK = (1 << _AT_BITS) - 1


class Window:
    """Keys by the time they were last put, each with a small tag.

    Exact, without timers: each key is held once, `put` and `take` are O(1), and `expire` costs O(1)
    for each key it lets go, so a touch is O(1) amortised. Times are non-negative milliseconds of any
    steady clock and never go back: one that does counts as the newest seen.

    A million keys of 60 bits take 155 bytes each: the table and the list of an OrderedDict 91, which
    fall to 65 before it next grows, and two ints.
    """

    __slots__ = ("_entries", "_newest")

    def __init__(self) -> None:
        self._entries: OrderedDict[int, int] = OrderedDict()
        self._newest = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: int) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Each (key, at, tag), the one put longest ago first."""
        for key, entry in self._entries.items():
            yield key, entry & _AT_MASK, entry >> _AT_BITS

    def oldest(self) -> int:
        """Nothing that is in the window, or will be, was put before that."""
        return next(iter(self._entries.values())) & _AT_MASK if self._entries else self._newest

    def put(self, key: int, at: int, tag: int = 0) -> None:
        """`key` was seen at `at`, with `tag` (0 or more)."""
        self._newest = at = max(at, self._newest)
        self._entries[key] = tag << _AT_BITS | at
        self._entries.move_to_end(key)

    def get(self, key: int) -> tuple[int, int] | None:
        """When `key` was last put, and its tag."""
        entry = self._entries.get(key)
        return None if entry is None else (entry & _AT_MASK, entry >> _AT_BITS)

    def take(self, key: int) -> tuple[int, int] | None:
        """As `get`, and `key` is no longer held."""
        entry = self._entries.pop(key, None)
        return None if entry is None else (entry & _AT_MASK, entry >> _AT_BITS)

    def expire(self, until: int) -> Iterator[tuple[int, int, int]]:
        """Let go of every key last put at `until` or before; yields (key, at, tag), oldest first."""
        entries = self._entries
        while entries:
            key = next(iter(entries))
            entry = entries[key]
            if entry & _AT_MASK > until:
                return
            del entries[key]
            yield key, entry & _AT_MASK, entry >> _AT_BITS
