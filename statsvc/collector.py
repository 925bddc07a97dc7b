"""What happens to an event, step by step: page, site, limits, identity, judgement, ingest.

Events that come together go these steps together: what a batch's events have in common is done once.
"""

import asyncio
from collections.abc import Awaitable, Sequence

from msgspec import Struct

from statsvc.announcements import Announcer, Dropped, Limited
from statsvc.board import Board
from statsvc.calendar import local_hour
from statsvc.errors import TooManyEvents, Unavailable, UnknownSite
from statsvc.ingest import Ingest, Recorded
from statsvc.keyring import Keyring
from statsvc.limits import Limits
from statsvc.model import DropReason, Event, Hit, Moment, Page, Sender, Site
from statsvc.ports import Clock
from statsvc.rules import judge, page_of
from statsvc.sites import Sites
from statsvc.totals import encode, without_numbers
from statsvc.visitor import identify


class Collected(Struct, frozen=True, gc=False):
    answer: bytes
    """The totals of the first site that knew the event, as JSON."""
    dropped: Sequence[DropReason]
    """Why, for each site where the event is not among the human numbers."""


Arrival = tuple[Event, Sender]
Outcome = Collected | Exception | Awaitable[Collected]
"""What `Collector.collect` returns or raises; for an event that waits for what others need not wait for, what
is to be awaited."""


class _Considered(Struct, gc=False):
    """An event, judged for each site it names."""

    sites: Sequence[Site]
    unknown: Sequence[DropReason]
    """One for each site it names that is not registered."""
    at: Moment
    hits: list[Hit] = []
    drops: dict[str, DropReason] = {}
    """Why, by the site's domain, where it is not among the human numbers."""

    def add(self, site: Site, judged: Hit | DropReason) -> None:
        if isinstance(judged, DropReason):
            self.drops[site.domain] = judged
            return
        self.hits.append(judged)
        if judged.dropped:
            self.drops[site.domain] = judged.dropped


class Collector:
    def __init__(
        self,
        sites: Sites,
        limits: Limits,
        keyring: Keyring,
        ingest: Ingest,
        board: Board,
        clock: Clock,
        announce: Announcer,
    ) -> None:
        self._sites = sites
        self._limits = limits
        self._keyring = keyring
        self._ingest = ingest
        self._board = board
        self._clock = clock
        self._announce = announce

    async def collect(self, event: Event, sender: Sender) -> Collected:
        """Record an event for every site it names; when this returns, it is durable.

        Raises InvalidEvent, UnknownSite, or, where nothing was recorded, TooManyEvents, Unavailable or
        StoreError.
        """
        (outcome,) = await self.collect_all([(event, sender)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Collected) else await outcome

    async def collect_all(self, arrivals: Sequence[Arrival | Exception]) -> list[Outcome]:
        """Record events that came together; what became of each. One that could not be read is its error."""
        now = self._clock.now()
        considered = [
            arrival if isinstance(arrival, Exception) else self._consider(*arrival, now)
            for arrival in arrivals
        ]
        offered = [event.hits for event in considered if isinstance(event, _Considered)]
        recorded = iter(await self._ingest.offer(offered) if offered else ())
        return [
            self._outcome(event, next(recorded)) if isinstance(event, _Considered) else event
            for event in considered
        ]

    def _consider(self, event: Event, sender: Sender, now: Moment) -> "_Considered | Outcome":
        """What is to be recorded of an event, or, where that is nothing, its outcome."""
        try:
            page = page_of(event.url)
            sites, unknown = self._named(event, page)
            hours = [local_hour(site.zone, now.wall_ms) for site in sites]
            secrets = [self._keyring.known(site, hour.day) for site, hour in zip(sites, hours, strict=True)]
            if None in secrets:
                return asyncio.create_task(self._collect_with_secrets(event, sender, sites, now))
            self._admit(sender, sites, now)
            considered = _Considered(sites, unknown, now)
            for site, hour, secret in zip(sites, hours, secrets, strict=True):
                assert secret is not None
                identity = identify(sender, secret, self._keyring.neighbours(site, hour, now))
                considered.add(site, judge(event, page, site, sender, identity, hour, now))
        except Exception as exc:  # noqa: BLE001 - a fault in one event is not that of others
            return exc
        return considered if considered.hits else self._unchanged(considered)

    async def _collect_with_secrets(
        self, event: Event, sender: Sender, sites: Sequence[Site], now: Moment
    ) -> Collected:
        """The first of a day: others need not wait until a secret is made."""
        for site in sites:
            day = local_hour(site.zone, now.wall_ms).day
            _ = self._keyring.known(site, day) or await self._keyring.fetch(site, day)
        return await self.collect(event, sender)

    def _outcome(self, event: "_Considered", recorded: Recorded | Unavailable) -> Outcome:
        if isinstance(recorded, Unavailable):
            return recorded
        for place, why in recorded.dropped.items():
            event.drops[event.hits[place].site.domain] = why
        if recorded.dropped.get(0) is DropReason.DUPLICATE:
            return self._unchanged(event)
        first = event.hits[0]
        return Collected(recorded.answers.to(first.site, first.path), self._dropped(event))

    async def _unchanged(self, event: "_Considered") -> Collected:
        """The totals where nothing was new; with the page, where it is one of the site's."""
        dropped = self._dropped(event)
        site = event.hits[0].site if event.hits else event.sites[0]
        if not site.public:
            return Collected(encode(without_numbers(site, event.at.wall_ms)), dropped)
        paths = {hit.path: hit.path for hit in event.hits[:1]}
        return Collected(await self._board.answer(site, paths, event.at), dropped)

    def _dropped(self, event: "_Considered") -> list[DropReason]:
        for domain, reason in event.drops.items():
            self._announce(Dropped(domain, reason))
        return [*event.unknown, *event.drops.values()]

    def _named(self, event: Event, page: Page) -> tuple[list[Site], list[DropReason]]:
        """The sites an event names, each once; where it names none, the site of its page."""
        sites: list[Site] = []
        dropped: list[DropReason] = []
        for domain in event.domains or (page.host,):
            site = self._sites.find(domain) if event.domains else self._sites.of_host(domain)
            if site is None:
                dropped.append(DropReason.UNKNOWN_SITE)
            elif site not in sites:
                sites.append(site)
        if not sites:
            raise UnknownSite(", ".join(event.domains) or page.host)
        return sites, dropped

    def _admit(self, sender: Sender, sites: Sequence[Site], now: Moment) -> None:
        try:
            self._limits.admit(sender, now)
        except TooManyEvents as exc:
            for site in sites:
                self._announce(Limited(site.domain, exc.limit))
            raise
