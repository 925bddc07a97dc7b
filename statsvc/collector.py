"""What happens to an event, step by step: page, site, secret, limits, identity, judgement, ingest.

Events that come together go these steps together: what a batch's events have in common is done once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial

from msgspec import Struct

from statsvc.announcements import Announcer, Dropped, Limited
from statsvc.board import Board
from statsvc.calendar import LocalHour, local_hour
from statsvc.errors import TooManyEvents, Unavailable, UnknownSite
from statsvc.ingest import Ingest, Recorded
from statsvc.keyring import Keyring
from statsvc.limits import Limits
from statsvc.model import DropReason, Event, Hit, Identity, Moment, Page, Sender, Site
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


Outcome = Collected | Exception | Awaitable[Collected]
"""What `Collector.collect` returns or raises; for an event that waits for what others need not wait for, what
is to be awaited."""


class _Aim(Struct, frozen=True, gc=False):
    """A site that events are for: when it is there, and what its visitors' ids are made with."""

    site: Site
    hour: LocalHour
    secret: bytes
    neighbours: tuple[bytes, ...]


class _Aims(Struct, frozen=True, gc=False):
    """What events are for that name the same sites."""

    sites: list[Site]
    """Each that they name, once; where they name none, the site of their page."""
    unknown: list[DropReason]
    """One for each domain that they name and that is not registered."""
    of_sites: list[_Aim]
    """Empty where a secret is yet to be made."""


class _Arrival(Struct, gc=False):
    """An event on its way, and what the steps have found out about it."""

    event: Event
    sender: Sender
    at: Moment
    page: Page = Page("", "", "")
    aims: _Aims = _Aims([], [], [])
    visitors: list[Identity] = []
    """Who it is for each of the sites."""
    hits: list[Hit] = []
    drops: dict[str, DropReason] = {}
    """Why, by the site's domain, where it is not among the human numbers."""


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
        (outcome,) = await self.collect_all([event], [sender])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Collected) else await outcome

    async def collect_all(
        self, events: Sequence[Event | Exception], senders: Sequence[Sender]
    ) -> list[Outcome]:
        """Record events that came together; what became of each. One that could not be read is its error."""
        now = self._clock.now()
        arrivals: list[_Arrival | Outcome] = [
            event if isinstance(event, Exception) else _Arrival(event, sender, now)
            for event, sender in zip(events, senders, strict=True)
        ]
        aims_at = cache(partial(self._aims, now))  # most events of a turn name the same
        # Each step for all before the next: a processor is quickest at what it has just done.
        for step in (partial(self._aim, aims_at), self._admit, self._identify, self._judge):
            for place, arrival in enumerate(arrivals):
                if isinstance(arrival, _Arrival):
                    try:
                        arrivals[place] = step(arrival) or arrival
                    except Exception as exc:  # noqa: BLE001 - a fault in one event is not that of others
                        arrivals[place] = exc
        offered = [arrival.hits for arrival in arrivals if isinstance(arrival, _Arrival)]
        recorded = iter(await self._ingest.offer(offered) if offered else ())
        return [
            self._outcome(arrival, next(recorded)) if isinstance(arrival, _Arrival) else arrival
            for arrival in arrivals
        ]

    def _aim(self, aims_at: Callable[[tuple[str, ...], str], _Aims], arrival: _Arrival) -> Outcome | None:
        arrival.page = page_of(arrival.event.url)
        arrival.aims = aims_at(arrival.event.domains, "" if arrival.event.domains else arrival.page.host)
        return None if arrival.aims.of_sites else asyncio.create_task(self._collect_with_secrets(arrival))

    def _aims(self, at: Moment, domains: tuple[str, ...], host: str) -> _Aims:
        """What events are for that name `domains`, or none, on a page of `host`. Raises UnknownSite."""
        aims = _Aims([], [], [])
        for domain in dict.fromkeys(domains or (host,)):
            site = self._sites.find(domain) if domains else self._sites.of_host(domain)
            if site is None:
                aims.unknown.append(DropReason.UNKNOWN_SITE)
            elif site not in aims.sites:
                aims.sites.append(site)
        if not aims.sites:
            raise UnknownSite(", ".join(domains) or host)
        for site in aims.sites:
            hour = local_hour(site.zone, at.wall_ms)
            secret = self._keyring.known(site, hour.day)
            if secret is None:
                aims.of_sites.clear()
                break
            aims.of_sites.append(_Aim(site, hour, secret, self._keyring.neighbours(site, hour, at)))
        return aims

    def _admit(self, arrival: _Arrival) -> None:
        try:
            self._limits.admit(arrival.sender, arrival.at)
        except TooManyEvents as exc:
            for site in arrival.aims.sites:
                self._announce(Limited(site.domain, exc.limit))
            raise

    def _identify(self, arrival: _Arrival) -> None:
        for aim in arrival.aims.of_sites:
            arrival.visitors.append(identify(arrival.sender, aim.secret, aim.neighbours))

    def _judge(self, arrival: _Arrival) -> Outcome | None:
        event, page, sender, at = arrival.event, arrival.page, arrival.sender, arrival.at
        for aim, identity in zip(arrival.aims.of_sites, arrival.visitors, strict=True):
            judged = judge(event, page, aim.site, sender, identity, aim.hour, at)
            if isinstance(judged, DropReason):
                arrival.drops[aim.site.domain] = judged
                continue
            arrival.hits.append(judged)
            if judged.dropped:
                arrival.drops[aim.site.domain] = judged.dropped
        return None if arrival.hits else self._unchanged(arrival)

    async def _collect_with_secrets(self, arrival: _Arrival) -> Collected:
        """The first event of a site's day: others need not wait until its secret is made."""
        for site in arrival.aims.sites:
            await self._keyring.fetch(site, local_hour(site.zone, arrival.at.wall_ms).day)
        return await self.collect(arrival.event, arrival.sender)

    def _outcome(self, arrival: _Arrival, recorded: Recorded | Unavailable) -> Outcome:
        if isinstance(recorded, Unavailable):
            return recorded
        for place, why in recorded.dropped.items():
            arrival.drops[arrival.hits[place].site.domain] = why
        if recorded.dropped.get(0) is DropReason.DUPLICATE:
            return self._unchanged(arrival)
        first = arrival.hits[0]
        return Collected(recorded.answers.to(first.site, first.path), self._dropped(arrival))

    async def _unchanged(self, arrival: _Arrival) -> Collected:
        """The totals where nothing was new; with the page, where it is one of the site's."""
        dropped = self._dropped(arrival)
        site = arrival.hits[0].site if arrival.hits else arrival.aims.sites[0]
        if not site.public:
            return Collected(encode(without_numbers(site, arrival.at.wall_ms)), dropped)
        paths = {hit.path: hit.path for hit in arrival.hits[:1]}
        return Collected(await self._board.answer(site, paths, arrival.at), dropped)

    def _dropped(self, arrival: _Arrival) -> list[DropReason]:
        if not arrival.drops:
            return arrival.aims.unknown
        for domain, reason in arrival.drops.items():
            self._announce(Dropped(domain, reason))
        return [*arrival.aims.unknown, *arrival.drops.values()]
