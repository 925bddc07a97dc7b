"""What operators do with sites, baselines and tokens, whether by command or over HTTP."""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from statsvc.errors import InvalidEvent, NoSuchSite, NoSuchToken
from statsvc.model import Baseline, PageTotals, Scope, Site, Token
from statsvc.ports import Registry
from statsvc.sites import refuse_shared_hosts

LONGEST_SPAN_SECONDS = 24 * 3600
LARGEST_BASELINE = 10**15
LONGEST_TEXT = 1000
SETTINGS = ("time_zone", "aliases", "window_seconds", "visit_gap_seconds", "repeat_seconds", "public")
"""What may be set of a site, by the names in `model.Site`."""
TOKEN_BYTES = 32


class Counts(NamedTuple):
    """What a site has."""

    people: PageTotals
    bots: PageTotals
    baseline: PageTotals

    @property
    def total(self) -> PageTotals:
        """What portals show."""
        return PageTotals(
            self.people.visits + self.baseline.visits, self.people.pageviews + self.baseline.pageviews
        )


class NewToken(NamedTuple):
    record: Token
    text: str
    """The token itself; it is shown now and not kept."""


class Administration:
    """Every method raises SiteError for what can't be carried out; then nothing has changed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._changing = asyncio.Lock()  # what one change was decided by, another must not change meanwhile

    async def sites(self) -> list[Site]:
        return await self._registry.sites()

    async def site(self, domain: str) -> Site:
        """Raises NoSuchSite."""
        sites = await self._registry.sites()
        for site in sites:
            if site.domain == domain:
                return site
        there = ", ".join(site.domain for site in sites) or "none"
        raise NoSuchSite(f"no site {domain} is registered (registered: {there})")

    async def add(self, domain: str, settings: Mapping[str, Any], at_ms: int) -> Site:
        """Register a site. One that was removed comes back, with its counts and the settings it had."""
        async with self._changing:
            before = await self._registry.removed(domain) or Site(id=0, domain=domain)
            site = _with(before, settings)
            refuse_shared_hosts(site, await self._registry.sites())
            return await self._registry.add(site, at_ms, again=True)

    async def change(self, domain: str, settings: Mapping[str, Any]) -> Site:
        """Change those of SETTINGS that are given."""
        async with self._changing:
            site = _with(await self.site(domain), settings)
            refuse_shared_hosts(site, await self._registry.sites())
            await self._registry.change(site)
        return site

    async def remove(self, domain: str, at_ms: int) -> None:
        await self._registry.remove(await self.site(domain), at_ms)

    async def counts(self, site: Site) -> Counts:
        counted = await self._registry.totals(site.id)
        return Counts(counted[False], counted[True], await self._baseline(site))

    async def baselines(self, site: Site) -> list[Baseline]:
        """All there ever were, newest first, also undone ones."""
        return await self._registry.baselines(site.id)

    async def set_baseline(
        self, domain: str, visits: int | None, pageviews: int | None, reason: str, at_ms: int
    ) -> PageTotals:
        """The new baseline; what is None stays. Raises InvalidEvent where a total would become negative."""
        async with self._changing:
            site = await self.site(domain)
            before = await self._baseline(site)
            base = PageTotals(
                before.visits if visits is None else visits,
                before.pageviews if pageviews is None else pageviews,
            )
            counted = (await self._registry.totals(site.id))[False]
            for name, so_far, begin in zip(PageTotals._fields, counted, base, strict=True):
                if so_far + begin < 0:
                    told = f"{begin:,} would make the total negative; {so_far:,} were counted"
                    raise InvalidEvent({name: [f"{told}, so {-so_far:,} is the least"]})
            await self._registry.set_baseline(site.id, *base, reason, at_ms)
        return base

    async def undo_baseline(self, domain: str, reason: str, at_ms: int) -> Baseline:
        """Go back to the baseline before; returns the one that is undone."""
        return await self._registry.undo_baseline((await self.site(domain)).id, reason, at_ms)

    async def tokens(self, site: Site | None) -> Sequence[Token]:
        """Of a site, or, for None, of the whole service; revoked ones too."""
        return await self._registry.tokens(site.id if site else None)

    async def make_token(self, site: Site | None, scope: Scope, note: str, at_ms: int) -> NewToken:
        text = f"statsvc_{secrets.token_urlsafe(TOKEN_BYTES)}"
        site_id = site.id if site else None
        record = await self._registry.add_token(site_id, scope, digest_of(text), note, at_ms)
        return NewToken(record, text)

    async def revoke_token(self, site: Site | None, token_id: int, at_ms: int) -> None:
        if token_id not in {token.id for token in await self.tokens(site)}:
            raise NoSuchToken(f"{site.domain if site else 'the service'} has no token {token_id}")
        await self._registry.revoke_token(token_id, at_ms)

    async def _baseline(self, site: Site) -> PageTotals:
        for entry in await self._registry.baselines(site.id):
            if entry.undone_at_ms is None:
                return PageTotals(entry.visits, entry.pageviews)
        return PageTotals(0, 0)


def digest_of(token: str) -> bytes:
    """What is kept of a token. It has 256 random bits, so one round of SHA-256 tells nothing of it."""
    return sha256(token.encode(errors="replace")).digest()


def _with(site: Site, settings: Mapping[str, Any]) -> Site:
    changed = {name: settings[name] for name in SETTINGS if name in settings}
    if "aliases" in changed:
        changed["aliases"] = tuple(
            alias for alias in dict.fromkeys(changed["aliases"]) if alias != site.domain
        )
    return msgspec.structs.replace(site, **changed)
