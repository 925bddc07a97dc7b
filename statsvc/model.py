"""The nouns. All are values: nothing here does anything.

Those that every event makes anew are structs, which are made in a third of the time of a named tuple.
"""

from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from statsvc.calendar import LocalHour

DEFAULT_TIME_ZONE = "UTC"


class Moment(msgspec.Struct, frozen=True, gc=False, order=True):
    """One reading of both clocks.

    The wall clock says in which hour and day an event lies; it may step. The steady clock says how
    long ago something was; it never steps, so neither do the window and the visit gap.
    """

    wall_ms: int
    """Milliseconds since the epoch, UTC."""
    steady_ms: int
    """Milliseconds since an arbitrary moment before this process started; never negative."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A registered site and its settings."""

    id: int
    domain: str
    time_zone: str = DEFAULT_TIME_ZONE
    aliases: tuple[str, ...] = ()
    window_seconds: int = 300
    visit_gap_seconds: int = 1800
    repeat_seconds: int = 0
    """A visitor's pageview of the same page so soon after the last one is none; 0: each one is."""
    public: bool = True

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)

    def owns(self, host: str) -> bool:
        """Whether pages of `host` are this site's: its domain, an alias, or a subdomain of one."""
        return host == self.domain or any(
            host == own or host.endswith(f".{own}") for own in (self.domain, *self.aliases)
        )


class DropReason(StrEnum):
    """Why an event is not in the human numbers, though nothing is wrong with its form."""

    BOT = "bot"
    """By its User-Agent; counted among the site's bots."""
    HEADLESS = "headless"
    """The page said that a program drives the browser; counted among the site's bots."""
    HEADERS = "headers"
    """No browser sends such headers; counted among the site's bots."""
    PREFETCH = "prefetch"
    """A browser fetched it in advance: nobody has seen the page yet."""
    HOSTNAME = "hostname"
    """The page's host is not the site's domain, a subdomain or an alias."""
    DUPLICATE = "duplicate"
    """An event with the same id was counted already."""
    REPEAT = "repeat"
    """The visitor loaded the page again within the site's repeat window: still reading, no pageview."""
    UNKNOWN_SITE = "unknown_site"
    """One of several sites named in an event is not registered; where none is, the answer is 404."""


class Sender(msgspec.Struct, frozen=True, gc=False):
    """Who sent an event. Lives as long as the request; stored and logged nowhere."""

    address: str
    """The client's address, as the network layer or a trusted proxy tells it."""
    user_agent: str
    sign: DropReason | None = None
    """What the request's headers say against a person who sees a page, if anything."""
    unproxied: bool = False
    """Whether the address is of this machine's own networks and no trusted proxy named it, nor was kept from
    it by a header of the client's: it may be that of a proxy which the operator has not declared, and
    everybody's."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """What a page, server or app reports: decoded and within limits, not yet judged."""

    name: str
    url: str
    domains: tuple[str, ...]
    """The sites it names, as written; empty means the site of the URL's host."""
    automated: bool = False
    """The page says that a program drives its browser."""
    id: str = ""
    """The sender's own name of this event: one that is sent again counts once. Empty for none."""


class Page(NamedTuple):
    """Where an event happened, from its URL."""

    scheme: str
    host: str
    path: str


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a visitor is today, and who the same visitor may have been a moment ago."""

    visitor: int
    """A keyed hash, 60 bits: the same visitor within a site's local day."""
    formerly: tuple[int, ...] = ()
    """The same visitor's ids on neighbouring days, where a visit may have begun under one of them."""


class Hit(msgspec.Struct, frozen=True, gc=False):
    """An event that counts."""

    site: Site
    identity: Identity
    bot: bool
    name: str
    path: str
    hour: LocalHour
    at: Moment
    dropped: DropReason | None = None
    """Why it is not among the human numbers; None for a person's."""
    receipt: int | None = None
    """What a second sending of the same event has too; None where nothing tells."""


class Touch(msgspec.Struct, frozen=True, gc=False):
    """What a hit began."""

    visit: bool
    """The visitor's first event after a gap: a visit of the site."""
    page_visit: bool
    """The first event of this visit on this page: a visit of the page."""
    visitor: bool
    """The visitor's first event on this local day."""


class Peak(NamedTuple):
    """The most current visitors there were, and when (milliseconds since the epoch, first time)."""

    visitors: int
    at_ms: int


class PageTotals(NamedTuple):
    visits: int
    pageviews: int


class DayCounts(NamedTuple):
    visits: int
    pageviews: int
    visitors: int


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What a site's old counter showed, as entered by an operator. The newest one not undone holds."""

    id: int
    visits: int
    pageviews: int
    reason: str
    made_at_ms: int
    undone_at_ms: int | None = None
    undone_reason: str | None = None


class Scope(StrEnum):
    """What a token is good for."""

    READ = "read"
    """The totals of private sites."""
    ADMIN = "admin"
    """That, and everything that `statsvc site` does."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A bearer token's record; the token itself is shown once and not kept."""

    id: int
    site_id: int | None
    """The site that it is for; None: the whole service, with sites to come."""
    scope: Scope
    note: str
    made_at_ms: int
    revoked_at_ms: int | None = None

    def opens(self, site: Site) -> bool:
        """Whether it is for `site`."""
        return self.site_id in (None, site.id)


class History(NamedTuple):
    """What the store knows of a site's human numbers, to start its totals from."""

    total: PageTotals
    baseline: PageTotals
    days: dict[str, DayCounts]
    peak: Peak | None
    """The all-time peak."""
    peak_today: Peak | None
