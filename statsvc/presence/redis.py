"""Presence in Redis, one for all nodes; filled from the store's journal wherever it knows less."""

import asyncio
import random
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from statsvc.errors import Unreachable
from statsvc.model import Hit, Moment, Site
from statsvc.ports import Store, Touched
from statsvc.presence import journal
from statsvc.presence.batch import (
    DAY_KEPT_MS,
    NO_VISIT,
    Carried,
    Collected,
    Part,
    Visit,
    numbers,
    page_of,
    pages_of,
    parts_of,
    sums,
    visitor_bytes,
    words,
)
from statsvc.presence.journal import Audience
from statsvc.presence.shards import META_MS, Call, Shard, Shards, shard_of, shards_of

PATIENCE_SECONDS = 1.0
"""So long a call may take; then Redis is gone."""
FILL_SECONDS = 10.0
"""A part of what fills Redis may take longer."""
VISITS_AT_ONCE = 5000
"""Of one shard, given to Redis in one call."""


class RedisPresence:
    """Implements `ports.Presence`, but raises PresenceError where Redis can't be reached.

    Its timeline is the steady clock moved to where the wall clock was at `open`: with a fleet's clock the
    same on all nodes. A shard's calls are done one after the other, so of two nodes' events one is first.
    """

    def __init__(
        self,
        client: Any,
        store: Store,
        prefix: str = "statsvc",
        patience_seconds: float | None = None,
    ) -> None:
        patience_seconds = PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        self._store = store
        self._shards = Shards(client, prefix, patience_seconds, self._fill_in, self._load_day)
        self.process = random.getrandbits(60)
        """Which its journals are told from others' by."""
        self._sites: dict[int, Site] = {}
        self._offset_ms: int | None = None
        self._now = Moment(0, 0)
        self._last: Collected | None = None
        self._filling = asyncio.Lock()
        self._fills = 0
        self._asking: dict[int, asyncio.Task[int]] = {}
        self._unread: dict[tuple[int, bool, str], Site] = {}
        """Days of which the store may know more visitors than this process has told Redis."""

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        self._see(now)
        self._sites = {site.id: site for site in sites}
        await self._take_back()
        await self._fill_in([])

    async def touch(self, hits: Sequence[Hit]) -> Touched:
        self._see(hits[-1].at)
        collected = Collected(hits)
        self._last = collected
        await self._read_on()
        parts = list(parts_of(hits))
        for part in parts:
            if part is parts[-1]:
                collected.ask(hits)
            await self._touch_part(part, collected)
        return collected.touched(self.process)

    def settle(self) -> None:
        """The last batch is committed: `open` is not to take it back."""
        self._last = None

    async def learn(self, journals: Sequence[bytes], now: Moment) -> None:
        """Know what these say of visits that were touched elsewhere; the day's visitors are read again."""
        self._see(now)
        folded = journal.fold(journals, self.process, self._now)
        for audience in folded.visits:
            site = self._sites.get(audience[0])
            if site is not None:
                await self._fill_audience(site, audience, folded)

    async def current(self, site: Site, now: Moment) -> int:
        """Those who ask while an answer is under way get the same one."""
        self._see(now)
        task = self._asking.get(site.id)
        if task is None:
            task = self._asking[site.id] = asyncio.create_task(self._count(site, now))
            task.add_done_callback(lambda _: self._asking.pop(site.id, None))
        return await asyncio.shield(task)

    async def current_on(self, site: Site, paths: Sequence[str], now: Moment) -> list[int]:
        self._see(now)
        pages = b"".join(page_of(path) for path in paths)
        answers = await self._shards.run(
            [self._count_in(shard, site, now, pages) for shard in shards_of(site.id, bot=False)]
        )
        return sums([numbers(answer[1]) for answer in answers])

    def is_known(self) -> bool:
        return True

    def open_visits(self) -> int:
        """None: they are in Redis."""
        return 0

    def window_entries(self) -> int:
        """None, as above."""
        return 0

    async def trim(self, now: Moment) -> None:
        """Redis lets go by itself of what nobody asks for; this is for what is asked for, and its memory."""
        self._see(now)
        for site in list(self._sites.values()):
            shards = [*shards_of(site.id, bot=False), *shards_of(site.id, bot=True)]
            at = self._at(now.steady_ms)
            await self._shards.run([Call(shard, site, "tidy", at, ()) for shard in shards])

    async def _count(self, site: Site, now: Moment) -> int:
        answers = await self._shards.run(
            [self._count_in(shard, site, now) for shard in shards_of(site.id, bot=False)]
        )
        return sum(sum(numbers(answer[0])) for answer in answers)

    def _count_in(self, shard: Shard, site: Site, now: Moment, pages: bytes = b"") -> Call:
        at = self._at(now.steady_ms)
        return Call(shard, site, "count", at, (struct.pack(">d", at), pages))

    async def _touch_part(self, hits: Sequence[Hit], collected: Collected) -> None:
        carried = await self._carried(hits, collected)
        part = Part(hits, collected, self._at(0), carried)
        part.read(await self._shards.run(part.calls()))
        if carried:
            await self._drop(carried, collected)

    async def _carried(
        self, hits: Sequence[Hit], collected: Collected
    ) -> dict[tuple[Audience, int], Carried]:
        """Visits that go on under another id. One more call, where ids may change: after midnight."""
        heirs: dict[tuple[Audience, int], int] = {}
        for hit in hits:
            for former in hit.identity.formerly:
                heirs.setdefault(((hit.site.id, hit.bot), former), hit.identity.visitor)
        if not heirs:
            return {}
        wanted: dict[Shard, list[int]] = {}
        for audience, former in heirs:
            wanted.setdefault(shard_of(*audience, former), []).append(former)
        at = self._at(hits[-1].at.steady_ms)
        calls = [
            Call(shard, collected.sites[shard.site], "look", at, [b"".join(map(visitor_bytes, formers))])
            for shard, formers in wanted.items()
        ]
        carried: dict[tuple[Audience, int], Carried] = {}
        for call, (known,) in zip(calls, await self._shards.run(calls), strict=True):
            audience = (call.shard.site, call.shard.bot)
            for name, seen, trail, *texts in known:
                former = int.from_bytes(name, "big")
                collected.learn([word for pair in zip(pages_of(trail), texts, strict=True) for word in pair])
                carried[audience, heirs[audience, former]] = Carried(former, Visit(int(seen), trail))
        return carried

    async def _drop(self, carried: dict[tuple[Audience, int], Carried], collected: Collected) -> None:
        """What goes on under another id is let go of under the former one, if it wasn't touched since."""
        gone: dict[Shard, list[Any]] = {}
        for (audience, _), (former, visit) in carried.items():
            shard = shard_of(*audience, former)
            gone.setdefault(shard, []).extend((visitor_bytes(former), visit.at))
            collected.changed(shard, former, NO_VISIT, visit)
        at = self._at(self._now.steady_ms)
        await self._shards.run(
            [Call(shard, collected.sites[shard.site], "drop", at, [words(*of)]) for shard, of in gone.items()]
        )

    async def _take_back(self) -> None:
        """Undo what the last batch did; the store says who of its newcomers was committed all the same."""
        last, at = self._last, self._at(self._now.steady_ms)
        if last is None:
            return
        await self._shards.run(last.undo(at))
        last.visits.clear()
        for audience, day in list(last.newcomers):
            visitors = last.newcomers[audience, day]
            committed: set[int] = set()
            with suppress(Unreachable):
                committed.update(await self._store.visitors(audience[0], day, audience[1]))
            await self._give_day(last.sites[audience[0]], audience[1], day, committed.intersection(visitors))
            del last.newcomers[audience, day]
        self._last = None

    async def _load_day(self, call: Call, day: str) -> None:
        site, bot = call.site, call.shard.bot
        visitors: Sequence[int] = ()
        try:
            visitors = await self._store.visitors(site.id, day, bot)
        except Unreachable:
            # Those who come meanwhile are new, as far as anybody can tell.
            self._unread[site.id, bot, day] = site
        await self._give_day(site, bot, day, visitors)

    async def _read_on(self) -> None:
        """Tell Redis of visitors whom the store could not tell of when they were asked for."""
        for (site_id, bot, day), site in list(self._unread.items()):
            try:
                visitors = await self._store.visitors(site_id, day, bot)
            except Unreachable:
                return
            await self._give_day(site, bot, day, visitors)
            del self._unread[site_id, bot, day]

    async def _give_day(self, site: Site, bot: bool, day: str, visitors: Iterable[int]) -> None:
        by_shard: dict[Shard, list[bytes]] = {shard: [] for shard in shards_of(site.id, bot)}
        for visitor in visitors:
            by_shard[shard_of(site.id, bot, visitor)].append(visitor_bytes(visitor))
        at = self._at(self._now.steady_ms)
        calls = [
            Call(shard, site, "load_day", at, (day, DAY_KEPT_MS, b"".join(part), at - META_MS), (day,))
            for shard, part in by_shard.items()
        ]
        await self._shards.run(calls, FILL_SECONDS)

    async def _fill_in(self, sites: Sequence[Site]) -> None:
        """Let Redis know what the store's journal says and it doesn't."""
        before = self._fills
        self._sites |= {site.id: site for site in sites}
        async with self._filling:
            if self._fills != before and not sites:
                return
            self._fills += 1
            folded = journal.fold(await self._store.open_visits(), self.process, self._now)
            for site in list(self._sites.values()):
                for bot in (False, True):
                    await self._fill_audience(site, (site.id, bot), folded)

    async def _fill_audience(self, site: Site, audience: Audience, folded: journal.Folded) -> None:
        at = self._at(self._now.steady_ms)
        over = self._now.steady_ms - 1000 * max(site.window_seconds, site.visit_gap_seconds)
        texts: dict[bytes, str] = {}
        by_shard: dict[Shard, list[Any]] = {shard: [] for shard in shards_of(*audience)}
        for visitor, seen, paths in folded.visits.get(audience, ()):
            if seen > over:
                pages = [page_of(path) for path in paths]
                texts.update(zip(pages, paths, strict=True))
                known = (visitor_bytes(visitor), self._at(seen), b"".join(pages))
                by_shard[shard_of(*audience, visitor)].extend(known)
        for former, given_up in folded.former.get(audience, {}).items():
            by_shard[shard_of(*audience, former)].extend((visitor_bytes(former), self._at(given_up), b""))
        calls = []
        for shard, visits in by_shard.items():
            for first in range(0, len(visits) or 1, 3 * VISITS_AT_ONCE):
                part = visits[first : first + 3 * VISITS_AT_ONCE]
                named = {page for trail in part[2::3] for page in pages_of(trail)}
                told = words(*(word for page in named for word in (page, texts[page])))
                calls.append(Call(shard, site, "fill", at, (words(*part), told)))
        await self._shards.run(calls, FILL_SECONDS)

    def _see(self, now: Moment) -> None:
        if self._offset_ms is None:
            self._offset_ms = now.wall_ms - now.steady_ms
        if now.steady_ms >= self._now.steady_ms:
            self._now = now

    def _at(self, steady_ms: int) -> int:
        """On the fleet's timeline."""
        assert self._offset_ms is not None, "open is called first"
        return steady_ms + self._offset_ms
