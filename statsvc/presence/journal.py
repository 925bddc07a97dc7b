"""The open visits that a batch touched, as the store keeps them: any presence can be filled from them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from statsvc.errors import StoreDamaged
from statsvc.model import Hit, Moment
from statsvc.visits import OpenVisit

Audience = tuple[int, bool]
"""A site's id, and whether its bots (True) or people are meant."""


class _Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A visit as a batch left it. The newest entry of a visitor is the whole truth about the visit."""

    site: int
    bot: bool
    visitor: int
    wall_ms: int
    steady_ms: int
    """The visit's latest event on both clocks; the steady one means something to the same process only."""
    pages: list[int]
    """Places in the record's `paths`, in the order of the visit's trail."""
    formerly: tuple[int, ...]


class _Record(msgspec.Struct, array_like=True):
    """The journal of one batch."""

    process: int
    """Whose steady clock it was."""
    paths: list[str]
    visits: list[_Entry]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Record).decode


class Folded(NamedTuple):
    """What the journals of many batches come to."""

    visits: dict[Audience, list[OpenVisit]]
    """Each visitor's, the one seen longest ago first. Times are steady milliseconds of this process."""
    former: dict[Audience, dict[int, int]]
    """When each id was given up for another of the same visitor."""


def write(process: int, touched: Iterable[tuple[Audience, Hit, Sequence[str]]]) -> bytes:
    """The journal of a batch: of each visitor the latest hit, and the visit's trail after it."""
    paths: dict[str, int] = {}
    entries = []
    for (site_id, bot), hit, trail in touched:
        pages = [paths.setdefault(path, len(paths)) for path in trail]
        visitor, formerly = hit.identity
        entries.append(_Entry(site_id, bot, visitor, *hit.at, pages, formerly))
    return _encode(_Record(process, list(paths), entries))


def fold(journals: Iterable[bytes], process: int, now: Moment) -> Folded:
    """What `journals`, in the order of their commits, come to. Raises StoreDamaged.

    What waited in a node's outbox was committed late: of entries of two processes the later one is the newer.
    """
    newest: dict[tuple[Audience, int], OpenVisit] = {}
    written_by: dict[tuple[Audience, int], int] = {}
    former: dict[Audience, dict[int, int]] = {}
    for journal in journals:
        record = _record(journal)
        for entry in record.visits:
            audience = (entry.site, entry.bot)
            key = (audience, entry.visitor)
            if record.process == process:
                at = entry.steady_ms
            else:
                # A wall clock that has stepped back must not put a visitor into the future.
                at = max(0, now.steady_ms - max(0, now.wall_ms - entry.wall_ms))
            known = newest.get(key)
            if known is not None and known.at > at and written_by[key] != record.process:
                continue
            for given_up in entry.formerly:
                newest.pop((audience, given_up), None)
                former.setdefault(audience, {})[given_up] = at
            paths = tuple(record.paths[page] for page in entry.pages)
            newest[key] = OpenVisit(entry.visitor, at, paths)
            written_by[key] = record.process
    visits: dict[Audience, list[OpenVisit]] = {}
    for (audience, _), visit in sorted(newest.items(), key=lambda item: item[1].at):
        visits.setdefault(audience, []).append(visit)
    return Folded(visits, former)


def _record(journal: bytes) -> _Record:
    """Raises StoreDamaged for what is not as it was written."""
    try:
        record = _decode(journal)
        if any(max(entry.pages) >= len(record.paths) for entry in record.visits if entry.pages):
            raise ValueError("it names a page that is not there")  # noqa: TRY301 - as the decoder would
    except (msgspec.MsgspecError, ValueError) as exc:
        raise StoreDamaged(
            f"an open visit that is kept in the store can't be read ({exc}): stop the service, put the store"
            " aside and restore a backup"
        ) from exc
    return record
