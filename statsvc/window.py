"""The sliding window: who was seen lately, and when."""

from array import array
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush

from statsvc.ids import WORD, IdTable

FEW = 50_000
"""Up to so many are a Python dict, which is faster, and takes about 110 bytes for each."""

# One int holds both when and where: a tuple would cost 72 bytes a visitor more. A fleet's steady clock counts
# from 1970: 2**42 ms after it are in 2109.
_AT_BITS = 42
_AT_MASK = (1 << _AT_BITS) - 1
_SPAN_BITS = 9
"""A span of time is 512 ms: shorter ones would be held by few keys each, longer ones take longer to open."""


class Window:
    """Keys by the time they were last put, each with a small tag.

    Exact, without timers: each key is held once, `put`, `get` and `take` take a few steps, and so does
    `expire` for each key it lets go. Times are non-negative milliseconds of any steady clock and never go
    back: one that does counts as the newest seen.

    A key is noted in the span of time in which it came, and stays there when it is put again: only when that
    is to expire it is noted anew, if it was put since. A million keys take 34 bytes each.
    """

    __slots__ = ("_entries", "_newest", "_opened", "_order", "_span", "_spans")

    def __init__(self) -> None:
        self._entries: dict[int, int] | IdTable = {}
        self._newest = 0
        self._spans: dict[int, array[int]] = {}
        """What is noted in each span, by its number: keys, each with its time."""
        self._order: list[int] = []
        """A heap of those numbers."""
        self._opened: list[tuple[int, int]] = []
        """What is noted in spans up to `_span`, the latest first: the negative of each time, and the key."""
        self._span = -1

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: int) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """Each (key, at, tag), the one put longest ago first."""
        for key, entry in sorted(self._entries.items(), key=lambda item: item[1] & _AT_MASK):
            yield key, entry & _AT_MASK, entry >> _AT_BITS

    def fill(self, keys: Sequence[int], at: Sequence[int], tags: Iterable[int]) -> None:
        """Hold all these keys, in any order, each once. Only while none was put yet."""
        entries = zip(keys, (tag << _AT_BITS | when for tag, when in zip(tags, at, strict=True)), strict=True)
        self._entries = IdTable(entries) if len(keys) > FEW else dict(entries)
        self._newest = max(at, default=0)
        for key, when in zip(keys, at, strict=True):
            self._note(key, when)

    def oldest(self) -> int:
        """Nothing that is in the window, or will be, was put before that."""
        if self._opened:
            return -self._opened[-1][0]
        return self._order[0] << _SPAN_BITS if self._order else self._newest

    def put(self, key: int, at: int, tag: int = 0) -> tuple[int, int] | None:
        """`key` was seen at `at`, with `tag` (0 or more). Tells what `get` did before."""
        at = max(at, self._newest)
        self._newest = at
        entry = tag << _AT_BITS | at
        entries = self._entries
        if isinstance(entries, IdTable):
            former = entries.swap(key, entry)
        else:
            former = entries.get(key)
            entries[key] = entry
        if former is not None:
            return former & _AT_MASK, former >> _AT_BITS
        self._note(key, at)
        if len(entries) > FEW and not isinstance(entries, IdTable):
            self._entries = IdTable(entries.items())
        return None

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
        entries, opened = self._entries, self._opened
        while opened or (self._order and self._order[0] << _SPAN_BITS <= until):
            if not opened:
                self._open(heappop(self._order))
                continue
            noted, key = opened[-1]
            if -noted > until:
                return
            opened.pop()
            entry = entries.pop(key, None)
            if entry is None:
                continue
            at = entry & _AT_MASK
            if at == -noted:
                yield key, at, entry >> _AT_BITS
            else:
                entries[key] = entry
                self._note(key, at)

    def _note(self, key: int, at: int) -> None:
        span = at >> _SPAN_BITS
        noted = self._spans.get(span)
        if noted is not None:
            noted.append(key)
            noted.append(at)
        elif span > self._span:
            self._spans[span] = array(WORD, (key, at))
            heappush(self._order, span)
        else:
            insort(self._opened, (-at, key))

    def _open(self, span: int) -> None:
        self._span = span
        words = iter(self._spans.pop(span))
        self._opened.extend(sorted({(-at, key) for key, at in zip(words, words, strict=True)}))
