"""The score as it stands: every site's totals in memory, so that no answer reads history."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from statsvc.calendar import local_hour
from statsvc.errors import StoreError
from statsvc.model import DayCounts, Moment, PageTotals, Site
from statsvc.ports import Presence, Store, Touched
from statsvc.tally import Tally
from statsvc.totals import SiteTotals, encode, page_dict, with_pages, without_numbers

PAGES_HELD = 100_000
"""Pages whose totals are held, in 42 MB; those asked for longest ago are let go, and read when needed."""

SITES_READ = 20
"""Whose history is read at once: commits wait meanwhile."""


class Board:
    """Starts from the store's history, and goes on by adding what each commit added.

    `between_commits` is held while a commit and its settling run, and while history is read: so what
    is read never has half a commit in it, nor one that is then added a second time. What others commit to
    the same store is read again, never added.
    """

    def __init__(self, store: Store, presence: Presence) -> None:
        self._store = store
        self._presence = presence
        self._sites: dict[int, SiteTotals] = {}
        self._pages: OrderedDict[tuple[int, str], PageTotals] = OrderedDict()
        self.between_commits = asyncio.Lock()

    def forget(self) -> None:
        """Read everything again when it is next asked for."""
        self._sites.clear()
        self._pages.clear()

    def forget_pages(self, site_id: int, paths: Iterable[str]) -> None:
        """Read these pages' totals again when they are next asked for."""
        for path in paths:
            self._pages.pop((site_id, path), None)

    async def follow(self, sites: Iterable[Site], now: Moment) -> None:
        """Others have counted for these sites: know it, all totals that are held in one reading.

        Raises StoreError where that can't be read; then it is, when it is next asked for.
        """
        async with self.between_commits:
            held = [site for site in sites if self._sites.pop(site.id, None)]
            others = {site.id for site in sites}
            for key in [key for key in self._pages if key[0] in others]:
                del self._pages[key]
            if held:
                await self._read(held, now)

    async def totals(self, site: Site, now: Moment) -> SiteTotals:
        """Raises StoreError where history must be read and can't be."""
        totals = self._held(site, now)
        if totals is None:
            async with self.between_commits:
                (totals,) = await self._totals_of([site], now)
        return totals

    async def answer(self, site: Site, paths: Mapping[str, str], now: Moment) -> bytes:
        """The site's totals as JSON, with pages: `paths` maps the name each has in the answer to its path.

        Raises StoreError where history must be read and can't be.
        """
        totals = await self.totals(site, now)
        body = totals.encoded(await self._presence.current(site, now), now.wall_ms)
        if not paths:
            return body
        keys = [(site.id, path) for path in paths.values()]
        held = self._held_pages(keys)
        if len(held) < len(set(keys)):
            async with self.between_commits:
                held = await self._pages_of(keys)
        current = await self._presence.current_on(site, list(paths.values()), now)
        pages = {
            name: page_dict(held[key], visitors)
            for name, key, visitors in zip(paths, keys, current, strict=True)
        }
        return with_pages(body, pages)

    async def of_all(self, sites: Iterable[Site], now: Moment) -> AsyncIterator[dict[str, Any]]:
        """The totals of every site, one after the other, private ones too, without pages.

        Raises StoreError where history must be read and can't be.
        """
        asked = list(sites)
        for first in range(0, len(asked), SITES_READ):
            part = asked[first : first + SITES_READ]
            if any(self._held(site, now) is None for site in part):
                async with self.between_commits:
                    await self._totals_of(part, now)
            for site in part:
                totals = await self.totals(site, now)
                yield totals.as_dict(await self._presence.current(site, now), now.wall_ms)

    async def settle(self, sites: Collection[Site], tally: Tally, touched: Touched, now: Moment) -> "Answers":
        """Take in a commit, with `between_commits` held, and write the answers to its hits.

        Raises StoreError where history must be read and can't be; the commit stands all the same.
        """
        self._add(tally)
        try:
            pages = await self._pages_of(list(touched.pages))
        except StoreError:
            pages = {}  # the site's numbers may be known all the same
        of_sites = {
            totals.site.id: totals.encoded(touched.current[totals.site.id], now.wall_ms)
            for totals in await self._totals_of([site for site in sites if site.public], now)
        }
        of_pages = {
            key: with_pages(of_sites[key[0]], {key[1]: page_dict(pages[key], current)})
            for key, current in touched.pages.items()
            if key[0] in of_sites and key in pages
        }
        private = {site.id: encode(without_numbers(site, now.wall_ms)) for site in sites if not site.public}
        return Answers(of_sites | private, of_pages)

    def _add(self, tally: Tally) -> None:
        for (site_id, _, path), (visits, pageviews) in tally.pages.items():
            held = self._pages.get((site_id, path))
            if held is not None:
                self._pages[site_id, path] = PageTotals(held.visits + visits, held.pageviews + pageviews)
        for (site_id, day, bot), counts in tally.days.items():
            if not bot and site_id in self._sites:
                self._sites[site_id].add(day, DayCounts(*counts))
        for (site_id, day), peak in tally.peaks.items():
            if site_id in self._sites:
                self._sites[site_id].see_peak(day, peak)

    def _held(self, site: Site, now: Moment) -> SiteTotals | None:
        totals = self._sites.get(site.id)
        if totals is None or totals.site is not site:
            return None
        return totals if totals.today == local_hour(site.zone, now.wall_ms).day else None

    async def _totals_of(self, sites: Sequence[Site], now: Moment) -> list[SiteTotals]:
        """With `between_commits` held: those that are not held here are read, all at once."""
        held = [self._held(site, now) for site in sites]
        unread = [site for site, totals in zip(sites, held, strict=True) if totals is None]
        read = iter(await self._read(unread, now) if unread else ())
        return [totals or next(read) for totals in held]

    async def _read(self, sites: Sequence[Site], now: Moment) -> list[SiteTotals]:
        days = [local_hour(site.zone, now.wall_ms).day for site in sites]
        histories = await self._store.histories(
            [(site.id, SiteTotals.first_day_needed(day), day) for site, day in zip(sites, days, strict=True)]
        )
        totals = [SiteTotals(*of) for of in zip(sites, days, histories, strict=True)]
        self._sites |= {of.site.id: of for of in totals}
        return totals

    def _held_pages(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        held = {key: self._pages[key] for key in keys if key in self._pages}
        if len(self._pages) > PAGES_HELD // 2:  # else none is let go of for a while, whichever it will be
            for key in held:
                self._pages.move_to_end(key)
        return held

    async def _pages_of(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        pages = self._held_pages(keys)
        missing = [key for key in keys if key not in pages]
        if missing:
            read = dict.fromkeys(missing, PageTotals(0, 0)) | await self._store.pages(missing)
            pages |= read
            self._pages |= read
            while len(self._pages) > PAGES_HELD:
                self._pages.popitem(last=False)
        return pages


class Answers(NamedTuple):
    """What the senders of one batch are told, written once for each site and page."""

    sites: dict[int, bytes]
    pages: dict[tuple[int, str], bytes]

    def to(self, site: Site, path: str) -> bytes:
        return self.pages.get((site.id, path)) or self.sites[site.id]

    @classmethod
    def without_numbers(cls, sites: Iterable[Site], now: Moment) -> "Answers":
        return cls({site.id: encode(without_numbers(site, now.wall_ms)) for site in sites}, {})
