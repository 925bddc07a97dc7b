"""What the batches of an outbox add to the numbers that the store tells without them."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from statsvc.stores.waiting import Waiting
from statsvc.tally import Tally

Key = TypeVar("Key", bound=Hashable)


class Sums(Waiting):
    """Of visits, pageviews and visitors, by site, day and page; memory as long as they aren't 0."""

    def add(self, tally: Tally) -> None:
        super().add(Tally(days=tally.days, pages=tally.pages, peaks=tally.peaks))

    def take(self, tally: Tally) -> None:
        """What was added is in the store. Peaks stay: the higher of two is what it is."""
        _take(self.tally.days, tally.days)
        _take(self.tally.pages, tally.pages)


def _take(sums: dict[Key, list[int]], taken: Mapping[Key, list[int]]) -> None:
    for key, counts in taken.items():
        had = sums.pop(key, [0] * len(counts))
        row = [have - count for have, count in zip(had, counts, strict=True)]
        if any(row):
            sums[key] = row
