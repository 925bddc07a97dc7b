"""What happens to an event, step by step: page, site, limits, identity, judgement, ingest."""

from collections.abc import Sequence

from msgspec import Struct

from statsvc.announcements import Announcer, Dropped, Limited
from statsvc.board import Board
from statsvc.calendar import local_hour
from statsvc.errors import TooManyEvents, UnknownSite
from statsvc.ingest import Ingest
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
        page = page_of(event.url)
        now = self._clock.now()
        sites, dropped = self._named(event, page)
        self._admit(sender, sites, now)
        hits = []
        drops: dict[str, DropReason] = {}
        for site in sites:
            hour = local_hour(site.zone, now.wall_ms)
            secret = self._keyring.known(site, hour.day) or await self._keyring.fetch(site, hour.day)
            identity = identify(sender, secret, self._keyring.neighbours(site, hour, now))
            judged = judge(event, page, site, sender, identity, hour, now)
            if isinstance(judged, Hit):
                hits.append(judged)
            if isinstance(judged, DropReason):
                drops[site.domain] = judged
            elif judged.dropped:
                drops[site.domain] = judged.dropped
        answer = None
        if hits:
            recorded = await self._ingest.offer(hits)
            if recorded.dropped.get(0) is not DropReason.DUPLICATE:
                answer = recorded.answers.to(hits[0].site, hits[0].path)
            for place, why in recorded.dropped.items():
                drops[hits[place].site.domain] = why
        for domain, reason in drops.items():
            dropped.append(reason)
            self._announce(Dropped(domain, reason))
        return Collected(answer or await self._unchanged(sites, hits, now), dropped)

    async def _unchanged(self, sites: Sequence[Site], hits: Sequence[Hit], now: Moment) -> bytes:
        """The totals where nothing was new; with the page, where it is one of the site's."""
        site = hits[0].site if hits else sites[0]
        if site.public:
            return await self._board.answer(site, {hit.path: hit.path for hit in hits[:1]}, now)
        return encode(without_numbers(site, now.wall_ms))

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
