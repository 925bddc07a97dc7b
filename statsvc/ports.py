"""The contract of every part that can be replaced. Each backend keeps it, and one suite tests them all.

Time is an argument everywhere below: no implementation reads a clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from statsvc.model import (
    Baseline,
    History,
    Hit,
    Moment,
    PageTotals,
    Peak,
    Scope,
    Site,
    Token,
    Touch,
)
from statsvc.tally import Tally


class Clock(Protocol):
    def now(self) -> Moment: ...


class Batch(msgspec.Struct, frozen=True):
    """What one commit makes durable."""

    id: int
    """63 random bits: unique without anyone to ask, whatever the clock does."""
    at_ms: int
    tally: Tally
    open_visits: bytes
    """What the presence must read again to know the open visits; opaque to the store."""
    receipts: Sequence[int] = ()
    """What must be read again to know which events were counted: 60-bit hashes of their ids."""


class Store(Protocol):
    """Keeps counts for ever. Every method raises StoreError where it can't do its work.

    A store object has one writer. How many processes may have one on the same counts is the backend's: SQLite
    lets one serve, PostgreSQL any number.
    """

    async def commit(self, batch: Batch) -> None:
        """Make the whole batch durable, or nothing of it. One is committed after the other.

        When this returns, the batch survives the loss of power. When it raises, the batch may or may
        not be in the store, and it may be given again: a batch whose id is there already changes nothing.
        """

    async def secret(self, site_id: int, day: str, new: bytes | None) -> bytes | None:
        """The secret of a site's local day. Where there is none, `new` is kept durably and returned.

        Whoever asks for the same day, from whichever process, gets the same secret.
        """

    async def secrets(self) -> dict[tuple[int, str], bytes]:
        """Every secret that is kept, by site and local day."""

    async def histories(self, wanted: Sequence[tuple[int, str, str]]) -> list[History]:
        """Of each site, first day and today of `wanted`, its human totals, and its days from the first on.

        The cost doesn't grow with history, and many are read at once.
        """

    async def pages(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        """All-time totals of pages, by site and path; pages never seen are left out."""

    async def open_visits(self) -> list[bytes]:
        """`Batch.open_visits` of every batch that was not yet forgotten, in the order of their commits."""

    async def receipts(self) -> list[int]:
        """`Batch.receipts` of every batch that was not yet forgotten, in the order of their commits."""

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
        """Ids of the distinct visitors of a local day, while they are kept."""

    async def paths(self, site_id: int, day: str) -> set[str]:
        """The paths that people had events on, on a local day."""

    async def names(self, site_id: int, day: str) -> set[str]:
        """The names of a local day's events, people's and bots'."""

    async def forget(self, batches_before_ms: int, receipts_before_ms: int, days_before: str) -> None:
        """Destroy what is no longer needed: open visits of batches committed before `batches_before_ms`,
        receipts of those before `receipts_before_ms`, visitors' ids of local days before `days_before`,
        and those days' secrets, overwritten.
        """

    async def let_go_of_page_days(self, days_before: str) -> None:
        """Delete the pages' counts of local days before `days_before`, and keep a record that this was done.

        The pages' all-time totals stay, and all counts of sites.
        """

    async def fold_pages(self, site_id: int, keep: int, seen_before: str, into: str) -> list[str]:
        """Make the least read pages of a site one page, `into`, where there are more than `keep`.

        All they had is added to that page, of all time and day by day; the paths that are gone are
        returned. Pages seen on or after the local day `seen_before` stay. A call folds some of those
        that are too many: call it until nothing is returned.
        """

    async def probe(self) -> None:
        """Commit something of no meaning, durably; raises StoreError where that can't be done."""

    async def space(self) -> "Space":
        """How much room the store takes and has."""

    async def version(self) -> int:
        """Another number when another process has changed sites or baselines; not for one's own commits."""

    async def changed(self) -> set[int]:
        """Ids of the sites whose counts others have changed since this was last asked, each change told once.

        Others are those who commit through another store object, in whichever process. What is read after
        this has what it tells of, and may have more, of which it then tells the next time. Empty when first
        asked, and always where nobody else can commit.
        """


class Space(NamedTuple):
    data_bytes: int
    log_bytes: int | None
    """What the write-ahead log takes beside the data; None where only the server's own machine knows."""
    free_bytes: int | None
    """What is left on the disk; None as above."""


class Outbox(Protocol):
    """What waits to be brought to a store in a network."""

    @property
    def batches(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def most_bytes(self) -> int: ...
    @property
    def oldest_ms(self) -> int | None:
        """When what waits longest was committed here, in milliseconds since the epoch."""


class Registry(Protocol):
    """Keeps the sites, their baselines and tokens. Raises SiteError for what makes no sense."""

    async def sites(self) -> list[Site]:
        """Registered sites, in order of their domains."""

    async def add(self, site: Site, at_ms: int, *, again: bool = False) -> Site:
        """Register `site`, whose id is ignored, and return it with its id.

        Raises SiteTaken where the domain is registered. Where it was and has been removed, `again`
        brings it back with its counts and the settings of `site`; else that is SiteTaken too.
        """

    async def removed(self, domain: str) -> Site | None:
        """The site of this domain as it was when it was removed; None where none was."""

    async def change(self, site: Site) -> None:
        """Change the settings of the site with this id."""

    async def remove(self, site: Site, at_ms: int) -> None:
        """No longer count for or show the site. Its counts are kept."""

    async def baselines(self, site_id: int) -> list[Baseline]:
        """All there ever were, newest first, also undone ones."""

    async def set_baseline(self, site_id: int, visits: int, pageviews: int, reason: str, at_ms: int) -> None:
        """From now on this is the baseline; the one before stays in the history."""

    async def undo_baseline(self, site_id: int, reason: str, at_ms: int) -> Baseline:
        """The baseline before the one that holds now holds again. Returns the one undone."""

    async def totals(self, site_id: int) -> Mapping[bool, PageTotals]:
        """All that was counted for a site, without its baseline: for people (False) and bots (True)."""

    async def add_token(
        self, site_id: int | None, scope: Scope, digest: bytes, note: str, at_ms: int
    ) -> Token:
        """A token for a site, or, for None, for the whole service."""

    async def tokens(self, site_id: int | None) -> list[Token]:
        """Of a site, or, for None, of the whole service; revoked ones too."""

    async def revoke_token(self, token_id: int, at_ms: int) -> None:
        """From now on the token is unknown. Raises NoSuchToken where it isn't there, or was revoked."""

    async def token(self, digest: bytes) -> Token | None:
        """The token with this digest, found in constant time; None for unknown or revoked."""


class Claims(Protocol):
    """Which events' receipts are counted, or in hand, on any node: so that one sent again to another node
    counts once.
    """

    async def claim(self, receipts: Sequence[int], now: Moment) -> Mapping[int, bool] | None:
        """Take these in hand. Those that can't be are returned: True for one that is counted, False for one
        that another node has in hand and may yet count, or not. None where nobody can tell at the moment.
        """

    def settle(self, counted: Collection[int], free: Collection[int]) -> None:
        """Of those in hand, `counted` are committed, and `free` are not."""


class Touched(msgspec.Struct, frozen=True):
    """What a batch of hits began, and how things stand after it."""

    touches: list[Touch]
    """One for each hit, in order."""
    current: Mapping[int, int | None]
    """Current visitors (people) of each site hit; None where that is not known now."""
    pages: Mapping[tuple[int, str], int | None]
    """Current visitors of each page hit, by site and path; None as above."""
    peaks: dict[tuple[int, str], Peak]
    """The most current visitors of each site and local day while the batch was touched, where known."""
    open_visits: bytes
    """For `Batch.open_visits`."""


class Presence(Protocol):
    """Knows who is current, who is on a visit, and who was here today.

    Touches come in order of arrival. Bots are kept apart from people by the same rules.
    """

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        """Know again what was known when the last batch was committed, and nothing since."""

    async def touch(self, hits: Sequence[Hit]) -> Touched:
        """Record hits. Where their batch is then not committed, `open` must be called before the next."""

    async def current(self, site: Site, now: Moment) -> int | None:
        """Current visitors (people) of a site; None where that is not known now."""

    async def current_on(self, site: Site, paths: Sequence[str], now: Moment) -> Sequence[int | None]:
        """Current visitors of each of `paths`; None as above."""

    def is_known(self) -> bool:
        """Whether it is known who is current; False while a presence that nodes share can't be reached."""

    def open_visits(self) -> int:
        """Open visits, of people and bots, that this process holds."""

    def window_entries(self) -> int:
        """Those of the open visits that are in their site's window, as of the site's latest look or touch."""

    async def trim(self, now: Moment) -> None:
        """Let go of what time has made useless. Called now and then."""
