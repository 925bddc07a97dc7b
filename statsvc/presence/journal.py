"""The open visits that a batch touched, as the store keeps them: any presence can be filled from them."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Annotated, NamedTuple

import msgspec

from statsvc.errors import StoreDamaged
from statsvc.model import Hit, Moment
from statsvc.visits import OpenVisit

Audience = tuple[int, bool]
"""A site's id, and whether its bots (True) or people are meant."""

_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**60)]
_Ms = Annotated[int, msgspec.Meta(ge=0, lt=2**42)]


class _Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A visit as a batch left it. The newest entry of a visitor is the whole truth about the visit."""

    site: int
    bot: bool
    visitor: _Id
    wall_ms: _Ms
    steady_ms: _Ms
    """The visit's latest event on both clocks; the steady one means something to the same process only."""
    pages: tuple[int, ...]
    """In the order of the visit's trail; the record's `paths` has what they are."""
    formerly: tuple[_Id, ...]


class _Head(msgspec.Struct, array_like=True):
    """How a record begins."""

    process: int
    """Whose steady clock it was."""


class _Record(_Head, array_like=True):
    """The journal of one batch."""

    paths: dict[int, str] | list[str]
    """Those that occur, by number; a list was written once."""
    visits: list[_Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode


class Folded(NamedTuple):
    """What the journals of many batches come to."""

    visits: dict[Audience, "OpenVisits"]
    """Each visitor's, the one seen longest ago first. Times are steady milliseconds of this process."""
    former: dict[Audience, dict[int, int]]
    """When each id was given up for another of the same visitor."""


def write(
    process: int,
    touched: Iterable[tuple[Audience, Hit, Sequence[int]]],
    paths: Sequence[str] | Mapping[int, str],
) -> bytes:
    """The journal of a batch: of each visitor the latest hit, and the visit's trail after it.

    Trails are of numbers, by which `paths` has the pages.
    """
    entries = []
    for (site_id, bot), hit, trail in touched:
        who, at = hit.identity, hit.at
        entries.append(
            _Entry(site_id, bot, who.visitor, at.wall_ms, at.steady_ms, tuple(trail), who.formerly)
        )
    named = set[int]().union(*(entry.pages for entry in entries))
    return _encode(_Record(process, {page: paths[page] for page in named}, entries))


class OpenVisits:
    """Many open visits, in little memory, in order of their latest events."""

    def __init__(self) -> None:
        self._visitors: list[int] = []
        self._at = array("q")
        self._paths: list[tuple[str, ...]] = []

    def __len__(self) -> int:
        return len(self._visitors)

    def __iter__(self) -> Iterator[OpenVisit]:
        # They were added newest first; only a clock that was set makes them go back and forth.
        places: Iterable[int] = range(len(self) - 1, -1, -1)
        if any(later < earlier for later, earlier in pairwise(self._at)):
            places = sorted(places, key=self._at.__getitem__)
        return map(self._visit, places)

    def newest_first(self) -> Iterator[OpenVisit]:
        """In the order in which they were added."""
        return map(self._visit, range(len(self)))

    def _visit(self, place: int) -> OpenVisit:
        return OpenVisit(self._visitors[place], self._at[place], self._paths[place])

    def add(self, visitor: int, at: int, paths: tuple[str, ...]) -> None:
        self._visitors.append(visitor)
        self._at.append(at)
        self._paths.append(paths)


def fold(journals: Sequence[bytes], process: int, now: Moment) -> Folded:
    """What `journals`, in the order of their commits, come to. Raises StoreDamaged.

    What waited in a node's outbox was committed late: of entries of two processes the later one is the newer.
    """
    of_processes: dict[int, list[bytes]] = {}
    for journal in journals:
        with _readable():
            of_processes.setdefault(_decode_head(journal).process, []).append(journal)
    folded = [_fold(of_one, now, own=of == process) for of, of_one in of_processes.items()]
    return folded[0] if len(folded) == 1 else _merged(folded)


def _fold(journals: Sequence[bytes], now: Moment, *, own: bool) -> Folded:
    """Of one process. `own`: its steady clock is this one."""
    visits: dict[Audience, OpenVisits] = {}
    former: dict[Audience, dict[int, int]] = {}
    # From the newest on, so that what is no longer true is let go of at once.
    known: dict[Audience, set[int]] = {}
    tuples: dict[tuple[str, ...], tuple[str, ...]] = {}
    for journal in reversed(journals):
        record = _record(journal)
        trails: dict[tuple[int, ...], tuple[str, ...]] = {}
        for entry in reversed(record.visits):
            audience = (entry.site, entry.bot)
            if audience not in known:
                known[audience], visits[audience] = set(), OpenVisits()
            # A wall clock that has stepped back must not put a visitor into the future.
            at = entry.steady_ms if own else max(0, now.steady_ms - max(0, now.wall_ms - entry.wall_ms))
            visitor = entry.visitor
            if visitor not in known[audience]:
                known[audience].add(visitor)
                paths = trails.get(entry.pages)
                if paths is None:
                    paths = tuple([record.paths[page] for page in entry.pages])
                    paths = trails[entry.pages] = tuples.setdefault(paths, paths)
                visits[audience].add(visitor, at, paths)
            for given_up in entry.formerly:
                known[audience].add(given_up)
                former.setdefault(audience, {}).setdefault(given_up, at)
    return Folded(visits, former)


def _merged(parts: Sequence[Folded]) -> Folded:
    former: dict[Audience, dict[int, int]] = {}
    for part in parts:
        for audience, given_up in part.former.items():
            latest = former.setdefault(audience, {})
            for visitor, at in given_up.items():
                latest[visitor] = max(at, latest.get(visitor, at))
    # The largest, of a million after a restart, is gone through once and not held a second time.
    largest = max(parts, key=lambda part: sum(map(len, part.visits.values())), default=None)
    others: dict[Audience, dict[int, OpenVisit]] = {
        audience: {} for part in parts for audience in part.visits
    }
    for part in parts:
        for audience, visits in part.visits.items() if part is not largest else ():
            for visit in visits:
                known = others[audience].get(visit.visitor)
                if known is None or known.at <= visit.at:
                    others[audience][visit.visitor] = visit
    merged: dict[Audience, OpenVisits] = {}
    for audience, newer in others.items():
        merged[audience], gone = OpenVisits(), former.get(audience, {})
        of_largest = largest.visits.get(audience) if largest is not None else None
        for visit in of_largest.newest_first() if of_largest is not None else ():
            other = newer.get(visit.visitor)
            if other is not None and other.at > visit.at:
                continue
            newer.pop(visit.visitor, None)
            if visit.at > gone.get(visit.visitor, -1):
                merged[audience].add(*visit)
        for visit in newer.values():
            if visit.at > gone.get(visit.visitor, -1):
                merged[audience].add(*visit)
    return Folded(merged, former)


def _record(journal: bytes) -> _Record:
    """Raises StoreDamaged for what is not as it was written."""
    with _readable():
        record = _decode(journal)
        if isinstance(record.paths, list):
            record.paths = dict(enumerate(record.paths))
        trails = {entry.pages for entry in record.visits}
        if () in trails:
            raise ValueError("a visit of no page")
        if not record.paths.keys() >= set[int]().union(*trails):
            raise ValueError("it names a page that is not there")
    return record


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (msgspec.MsgspecError, ValueError) as exc:
        raise StoreDamaged(
            f"an open visit that is kept in the store can't be read ({exc}): stop the service, put the store"
            " aside and restore a backup"
        ) from exc
