"""The open visits that a batch touched, as the store keeps them: any presence can be filled from them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, NamedTuple

import msgspec

from statsvc.errors import StoreDamaged
from statsvc.model import Hit, Moment
from statsvc.visits import OpenVisits

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

    visits: dict[Audience, OpenVisits]
    """Times are steady milliseconds of this process."""
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
    offset_ms, latest = now.steady_ms - now.wall_ms, now.steady_ms
    for journal in reversed(journals):
        record = _record(journal)
        trails: dict[tuple[int, ...], tuple[str, ...]] = {}
        for entry in reversed(record.visits):
            audience = (entry.site, entry.bot)
            of_audience = known.get(audience)
            if of_audience is None:
                of_audience = known[audience] = set()
                visits[audience] = OpenVisits()
            at = entry.steady_ms if own else entry.wall_ms + offset_ms
            # A wall clock that has stepped back must not put a visitor into the future.
            if not 0 <= at <= latest:
                at = max(0, min(at, latest))
            visitor = entry.visitor
            if visitor not in of_audience:
                of_audience.add(visitor)
                paths = trails.get(entry.pages)
                if paths is None:
                    paths = tuple([record.paths[page] for page in entry.pages])
                    paths = trails[entry.pages] = tuples.setdefault(paths, paths)
                visits[audience].add(visitor, at, paths)
            for given_up in entry.formerly:
                of_audience.add(given_up)
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
    largest = max(parts, key=lambda part: sum(map(len, part.visits.values())), default=Folded({}, {}))
    others: dict[Audience, dict[int, tuple[int, tuple[str, ...]]]] = {
        audience: {} for part in parts for audience in part.visits
    }
    for part in parts:
        for audience, visits in part.visits.items() if part is not largest else ():
            for visitor, at, paths in visits:
                known = others[audience].get(visitor)
                if known is None or known[0] <= at:
                    others[audience][visitor] = at, paths
    merged: dict[Audience, OpenVisits] = {}
    for audience, newer in others.items():
        gone = former.get(audience, {})
        visits = largest.visits.get(audience, OpenVisits())
        before = {visitor: at for visitor, at, _ in visits if visitor in newer or visitor in gone}
        later = {
            visitor: (at, paths)
            for visitor, (at, paths) in newer.items()
            if at > max(before.get(visitor, -1), gone.get(visitor, -1))
        }
        over = {one for one, at in before.items() if one in later or at <= gone.get(one, -1)}
        if over:
            visits = visits.those([visitor not in over for visitor in visits.visitors])
        for visitor, (at, paths) in later.items():
            visits.add(visitor, at, paths)
        merged[audience] = visits
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
