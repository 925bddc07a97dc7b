"""What was counted already: an event that is sent again, and a page that is loaded again.

Both are decided where batches are flushed, one batch at a time, so that of two that come together one
is the first. What is known of a batch that could not be committed must be forgotten again. In a fleet an
id is claimed first, so that of two nodes one is the first.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from statsvc.errors import Unreachable
from statsvc.ids import Ids
from statsvc.model import DropReason, Hit
from statsvc.ports import Claims, Store
from statsvc.tally import ENGAGEMENT, PAGEVIEW

RECEIPT_SECONDS = 24 * 3600
"""How long an event's id is known."""
RECEIPTS_HELD = 500_000
"""Latest ids known, and up to as many before them, in 10 MB: where more come in a day, for less than that."""
PAGEVIEWS_HELD = 200_000
"""Latest pageviews, of sites with a repeat window, whose time is known."""


class Sifted(NamedTuple):
    hits: list[Hit]
    """Those that count; a repeat as the engagement that it is."""
    dropped: dict[int, DropReason]
    """Why, by the place in the batch, for those that don't, or count as something else."""
    receipts: list[int]
    """For `Batch.receipts`."""
    in_hand: set[int]
    """Places of those that another node has in hand: they are not counted here, and not known to be there."""


class Duplicates:
    """Ids outlive the process, as they are committed with their events. Repeat windows begin anew with it,
    and are this process's own.
    """

    def __init__(self, store: Store, claims: Claims | None = None) -> None:
        self._store = store
        self._claims = claims
        self._claimed: list[int] = []
        """Receipts of the last batch that are in hand."""
        self._alone = False
        """Other nodes could not be heard of."""
        self._receipts: _Latest | None = None
        self._unread = False
        """The store may know of more receipts."""
        self._viewed_ms: dict[tuple[int, int, str], int] = {}

    def forget(self) -> None:
        """Know only what was committed."""
        self._receipts = None
        self._viewed_ms.clear()

    def settle(self) -> None:
        """What was sifted last is committed."""
        if self._claims is not None and self._claimed:
            self._claims.settle(self._claimed, ())
        self._claimed = []

    async def sift(self, hits: Sequence[Hit]) -> Sifted:
        """Take a batch apart. Raises StoreError."""
        counted: list[Hit] = []
        dropped: dict[int, DropReason] = {}
        receipts: list[int] = []
        in_hand: set[int] = set()
        elsewhere = {} if self._claims is None else await self._claim(self._claims, hits)
        if self._unread:
            await self._read()
        for place, hit in enumerate(hits):
            if hit.receipt is not None:
                known = self._receipts if self._receipts is not None else await self._read()
                if elsewhere.get(hit.receipt) is False:
                    in_hand.add(place)
                    continue
                if hit.receipt in elsewhere or not known.add(hit.receipt):
                    dropped[place] = DropReason.DUPLICATE
                    continue
                receipts.append(hit.receipt)
            if hit.site.repeat_seconds and hit.name == PAGEVIEW and self._is_repeat(hit):
                dropped[place] = DropReason.REPEAT
                hit = msgspec.structs.replace(hit, name=ENGAGEMENT)  # noqa: PLW2901 - what counts of it
            counted.append(hit)
        return Sifted(counted, dropped, receipts, in_hand)

    async def _claim(self, claims: Claims, hits: Sequence[Hit]) -> Mapping[int, bool]:
        """What can't be claimed of the batch's receipts, as `Claims.claim` says it."""
        if self._claimed:  # of a batch that failed: the store knows; where it is away, others ask it later
            known = await self._read()
            if not self._unread:
                committed = [receipt for receipt in self._claimed if receipt in known]
                claims.settle(committed, [receipt for receipt in self._claimed if receipt not in known])
            self._claimed = []
        known = self._receipts or _Latest()
        receipts = dict.fromkeys(hit.receipt for hit in hits if hit.receipt is not None)
        new = [receipt for receipt in receipts if receipt not in known]
        if not new:
            return {}
        elsewhere = await claims.claim(new, hits[-1].at)
        if elsewhere is None:
            self._alone = True
            return {}
        if self._alone:
            # What was counted while nobody could tell is in the store.
            self._alone, self._unread = False, True
        self._claimed = [receipt for receipt in new if receipt not in elsewhere]
        return elsewhere

    async def _read(self) -> "_Latest":
        """What the store knows; while it is away, what is known here."""
        try:
            receipts = await self._store.receipts()
        except Unreachable:
            self._unread = True
            self._receipts = self._receipts or _Latest()
            return self._receipts
        self._unread = False
        self._receipts = _Latest(receipts[-RECEIPTS_HELD:])
        return self._receipts

    def _is_repeat(self, hit: Hit) -> bool:
        visitor, formerly = hit.identity.visitor, hit.identity.formerly
        now = hit.at.steady_ms
        for known_as in (visitor, *formerly):
            viewed = self._viewed_ms.get((hit.site.id, known_as, hit.path))
            if viewed is not None and now - viewed < hit.site.repeat_seconds * 1000:
                return True
        key = (hit.site.id, visitor, hit.path)
        self._viewed_ms.pop(key, None)
        self._viewed_ms[key] = now
        if len(self._viewed_ms) > PAGEVIEWS_HELD:
            del self._viewed_ms[next(iter(self._viewed_ms))]
        return False


class _Latest:
    """The newest half fills while the older one is still known; then that is let go of as a whole."""

    def __init__(self, older: Sequence[int] = ()) -> None:
        self._newer, self._older = Ids(), Ids(older)
        self._count = 0

    def __contains__(self, receipt: int) -> bool:
        return receipt in self._newer or receipt in self._older

    def add(self, receipt: int) -> bool:
        """Whether it is new."""
        if receipt in self._older or not self._newer.add(receipt):
            return False
        self._count += 1
        if self._count == RECEIPTS_HELD:
            self._newer, self._older = Ids(), self._newer
            self._count = 0
        return True
