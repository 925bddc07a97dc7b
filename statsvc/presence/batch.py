"""A batch of hits as calls of `redis.lua`, and its answers as what the hits began. Pure."""

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from statsvc.model import Hit, Peak, Touch
from statsvc.ports import Touched
from statsvc.presence import journal
from statsvc.presence.journal import Audience
from statsvc.presence.shards import Call, Shard, shard_of, shards_of

DAY_KEPT_MS = 49 * 3600 * 1000
"""From its start, a local day's visitors are known: until the day after is over, which may have 25 hours."""

HITS_AT_ONCE = 2000
"""More go in several calls, each with the time that a call may take."""

_HIT = struct.Struct(">Q8sdB")
_LEFT = struct.Struct(">QdHdH")


class Visit(NamedTuple):
    """What a shard knows of a visitor; `at` is -1 where that is no visit."""

    at: int
    trail: bytes


NO_VISIT = Visit(-1, b"")


class Carried(NamedTuple):
    """A visit that goes on under another id."""

    former: int
    visit: Visit


class _Group:
    """The hits of one shard."""

    def __init__(self) -> None:
        self.hits = bytearray()
        self.places: list[int] = []
        self.pages: set[bytes] = set()
        self.carried: list[bytes | int] = []
        self.days: dict[str, int] = {}
        """How long each day's set is kept."""


def page_of(path: str) -> bytes:
    return blake2b(path.encode(errors="surrogatepass"), digest_size=8).digest()


def visitor_bytes(visitor: int) -> bytes:
    return visitor.to_bytes(8, "big")


def words(*of: bytes | str | int) -> bytes:
    """A list, as `redis.lua` reads it."""
    written = (word if isinstance(word, bytes) else str(word).encode(errors="surrogatepass") for word in of)
    return b"".join(len(word).to_bytes(4, "big") + word for word in written)


def pages_of(trail: bytes) -> list[bytes]:
    return [trail[place : place + 8] for place in range(0, len(trail), 8)]


def parts_of(hits: Sequence[Hit]) -> Iterator[list[Hit]]:
    """`hits` in runs in which nobody gets another id: what is known under the first is looked for before."""
    part: list[Hit] = []
    met: set[tuple[int, bool, int]] = set()
    for hit in hits:
        visitor, formerly = hit.identity.visitor, hit.identity.formerly
        if len(part) == HITS_AT_ONCE or any((hit.site.id, hit.bot, former) in met for former in formerly):
            yield part
            part, met = [], set()
        part.append(hit)
        met.add((hit.site.id, hit.bot, visitor))
    yield part


class Collected:
    """What the parts of a batch come to."""

    def __init__(self, hits: Sequence[Hit]) -> None:
        self.sites = {hit.site.id: hit.site for hit in hits}
        self.asked: dict[int, dict[bytes, str]] = {site_id: {} for site_id in self.sites}
        self.texts: dict[bytes, str] = {}
        self.visits: dict[tuple[Shard, int], tuple[Visit, Visit]] = {}
        """Of each visitor, what was left and what was before."""
        self.newcomers: dict[tuple[Audience, str], list[int]] = {}
        self.touches: list[Touch] = []
        self.peaks: dict[tuple[int, str], Peak] = {}
        self.current: dict[int, int] = {}
        self.pages: dict[tuple[int, str], int] = {}
        self.left: dict[tuple[Audience, int], tuple[Hit, bytes]] = {}

    def changed(self, shard: Shard, visitor: int, left: Visit, before: Visit) -> None:
        known = self.visits.get((shard, visitor))
        self.visits[shard, visitor] = left, before if known is None else known[1]

    def undo(self, now: int) -> list[Call]:
        """What takes all of it back."""
        visits: dict[Shard, list[Any]] = {}
        pages: dict[Shard, set[bytes]] = {}
        for (shard, visitor), (left, before) in self.visits.items():
            visits.setdefault(shard, []).extend((visitor_bytes(visitor), *left, *before))
            pages.setdefault(shard, set()).update(pages_of(before.trail))
        new: dict[Shard, dict[str, list[bytes]]] = {}
        for (audience, day), visitors in self.newcomers.items():
            for visitor in visitors:
                days = new.setdefault(shard_of(*audience, visitor), {})
                days.setdefault(day, []).append(visitor_bytes(visitor))
        calls = []
        for shard, of_shard in visits.items():
            named = words(*(word for page in pages[shard] for word in (page, self.texts[page])))
            days = new.get(shard, {})
            arguments = (words(*of_shard), named, words(*(b"".join(of_day) for of_day in days.values())))
            calls.append(Call(shard, self.sites[shard.site], "undo", now, arguments, tuple(days)))
        return calls

    def ask(self, hits: Sequence[Hit]) -> None:
        """Of these hits' pages the next part is to say how many are current there."""
        for hit in hits:
            self.asked[hit.site.id][page_of(hit.path)] = hit.path

    def learn(self, texts: Sequence[bytes | None]) -> None:
        """Pages and their texts, one after the other."""
        for page, text in zip(texts[::2], texts[1::2], strict=True):
            if page is not None and text is not None:
                self.texts[page] = text.decode()

    def touched(self, process: int) -> Touched:
        numbers = {page: number for number, page in enumerate(self.texts)}
        trails = (
            (audience, hit, [numbers[page] for page in pages_of(trail)])
            for (audience, _), (hit, trail) in self.left.items()
        )
        journalled = journal.write(process, trails, list(self.texts.values()))
        return Touched(self.touches, self.current, self.pages, self.peaks, journalled)


class Part:
    """Hits in whose order nobody gets another id, and the calls that record them.

    `carried` has the visits that go on under another id, by audience and new id.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        collected: Collected,
        offset_ms: int,
        carried: dict[tuple[Audience, int], Carried],
    ) -> None:
        self._hits = hits
        self._collected = collected
        self._carried = carried
        self._first_ms: dict[tuple[Audience, int], int] = {}
        self._groups: dict[Shard, _Group] = {}
        # Of each site, when people's hits were, and each moment's day and time by the wall clock.
        self._moments: dict[int, dict[int, tuple[str, int]]] = {}
        for site_id in collected.sites:
            self._moments[site_id] = {}
            for shard in shards_of(site_id, bot=False):
                self._groups[shard] = _Group()
        at = 0
        for place, hit in enumerate(hits):
            at = max(at, hit.at.steady_ms + offset_ms)
            self._add(place, hit, at)
        self._until = at

    def _add(self, place: int, hit: Hit, at: int) -> None:
        visitor = hit.identity.visitor
        audience = (hit.site.id, hit.bot)
        group = self._groups.setdefault(shard_of(*audience, visitor), _Group())
        page = page_of(hit.path)
        self._collected.texts[page] = hit.path
        group.days[hit.hour.day] = hit.hour.day_start_ms + DAY_KEPT_MS - hit.at.wall_ms
        day = list(group.days).index(hit.hour.day) + 1
        group.hits += _HIT.pack(visitor, page, at, day)
        group.places.append(place)
        group.pages.add(page)
        carried = self._carried.get((audience, visitor))
        if carried is not None:
            group.carried += [visitor_bytes(visitor), *carried.visit]
            group.pages.update(pages_of(carried.visit.trail))
        self._first_ms.setdefault((audience, visitor), at)
        if not hit.bot:
            self._moments[hit.site.id][at] = (hit.hour.day, hit.at.wall_ms)

    def calls(self) -> list[Call]:
        texts, sites = self._collected.texts, self._collected.sites
        times = {
            site_id: struct.pack(f">{len(moments) + 1}d", *moments, self._until)
            for site_id, moments in self._moments.items()
        }
        asked = {site_id: b"".join(pages) for site_id, pages in self._collected.asked.items()}
        until = struct.pack(">d", self._until)
        calls = []
        for shard, group in self._groups.items():
            counted = (until, b"") if shard.bot else (times[shard.site], asked[shard.site])
            if not group.places:
                calls.append(Call(shard, sites[shard.site], "count", self._until, counted))
                continue
            told = (
                bytes(group.hits),
                words(*group.carried),
                words(*(word for day in group.days.items() for word in day)),
                words(*(word for page in group.pages for word in (page, texts[page]))),
            )
            days = tuple(group.days)
            calls.append(Call(shard, sites[shard.site], "touch", self._until, (*counted, *told), days))
        return calls

    def read(self, answers: Sequence[Sequence[Any]]) -> None:
        """Collect what the calls were answered, in their order."""
        into = self._collected
        touches: dict[int, Touch] = {}
        trails: dict[tuple[Audience, int], bytes] = {}
        counts: dict[int, list[tuple[int, ...]]] = {}
        on_pages: dict[int, list[tuple[int, ...]]] = {}
        for (shard, group), answer in zip(self._groups.items(), answers, strict=True):
            of_site, of_pages, *of_hits = answer
            if group.places:
                began, left, texts = of_hits
                for place, bits in zip(group.places, began, strict=True):
                    touches[place] = Touch(bool(bits & 1), bool(bits & 2), bool(bits & 4))
                for visitor, visit, before in _visits(left):
                    trails[(shard.site, shard.bot), visitor] = visit.trail
                    into.changed(shard, visitor, visit, before)
                into.learn(texts)
            if not shard.bot:
                counts.setdefault(shard.site, []).append(numbers(of_site))
                on_pages.setdefault(shard.site, []).append(numbers(of_pages))
        for place, hit in enumerate(self._hits):
            audience, visitor = (hit.site.id, hit.bot), hit.identity.visitor
            into.touches.append(touches[place])
            into.left[audience, visitor] = hit, trails[audience, visitor]
            if touches[place].visitor:
                into.newcomers.setdefault((audience, hit.hour.day), []).append(visitor)
        for site_id, of_shards in counts.items():
            self._take_counts(site_id, sums(of_shards), sums(on_pages[site_id]))

    def _take_counts(self, site_id: int, counts: Sequence[int], on_pages: Sequence[int]) -> None:
        into = self._collected
        twice = [
            (self._first_ms[audience, visitor], carried.visit)
            for (audience, visitor), carried in self._carried.items()
            if audience == (site_id, False)
        ]
        window_ms = into.sites[site_id].window_seconds * 1000
        for at, visitors in zip((*self._moments[site_id], self._until), counts, strict=True):
            # A visitor who has got another id is counted under both until the former one is dropped.
            current = visitors - sum(first <= at and visit.at > at - window_ms for first, visit in twice)
            into.current[site_id] = current
            moment = self._moments[site_id].get(at)
            if moment is not None:
                day, wall_ms = moment
                peak = into.peaks.get((site_id, day))
                if peak is None or current > peak.visitors:
                    into.peaks[site_id, day] = Peak(current, wall_ms)
        for (page, path), visitors in zip(into.asked[site_id].items(), on_pages, strict=True):
            left = [visit for _, visit in twice if visit.at > self._until - window_ms]
            into.pages[site_id, path] = visitors - sum(visit.trail[-8:] == page for visit in left)


def sums(of_shards: Sequence[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*of_shards, strict=True)]


def numbers(packed: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(packed) // 4}I", packed)


def _visits(packed: bytes) -> Iterator[tuple[int, Visit, Visit]]:
    """Of each visitor, the visit that was left and the one before."""
    place = 0
    while place < len(packed):
        visitor, left_at, left, before_at, before = _LEFT.unpack_from(packed, place)
        middle = place + _LEFT.size + left
        yield (
            visitor,
            Visit(int(left_at), packed[place + _LEFT.size : middle]),
            Visit(int(before_at), packed[middle : middle + before]),
        )
        place = middle + before
