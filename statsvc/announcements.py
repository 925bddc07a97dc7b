"""What the service tells its observers. Plain facts, announced after the fact."""

import traceback as tracebacks
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from statsvc.model import DropReason


class Committed(msgspec.Struct, frozen=True):
    """A batch is durable."""

    events: int
    names: Counter[tuple[str, str, bool]]
    """Events by site domain, name class (pageview, engagement, custom) and whether of bots."""
    seconds: float
    """From the first attempt to the success."""
    attempts: int


class CommitFailed(msgspec.Struct, frozen=True):
    """One attempt to commit a batch did not succeed."""

    events: int
    error: str
    given_up: bool
    """The batch's senders were told 503."""


class StoreAway(msgspec.Struct, frozen=True):
    """The store can't be reached: from now on batches are kept in the outbox, durably."""

    error: str


class StoreBack(msgspec.Struct, frozen=True):
    """The store answers again, and is brought what waits in the outbox."""

    batches: int


class Dropped(msgspec.Struct, frozen=True):
    """An event of a known site is not among the human numbers, for a reason."""

    site: str
    reason: DropReason


class Limited(msgspec.Struct, frozen=True):
    """An event was refused, because its visitor or network had sent too many."""

    site: str
    limit: str
    """`visitor` or `network`."""


class Capped(msgspec.Struct, frozen=True):
    """An event's path or name was one too many for its site's day, and is counted under `(other)`."""

    site: str
    what: str
    """`path` or `name`."""


class Folded(msgspec.Struct, frozen=True):
    """A site had more pages than are kept: the least read ones are counted under `(other)` from now on."""

    site: str
    pages: int


class Rejected(msgspec.Struct, frozen=True):
    """A request to the collector was answered with an error."""

    status: int


class ProxyNotTrusted(msgspec.Struct, frozen=True):
    """An event came from this machine's own networks with a forwarding header that was not read."""


class CutReason(StrEnum):
    """Why a connection was ended beneath HTTP. Values are stable: metrics carry them."""

    BUSY = "busy"
    FULL = "full"
    IDLE = "idle"
    SLOW = "slow"
    LARGE = "large"
    NOT_HTTP = "not_http"


class Cut(msgspec.Struct, frozen=True):
    """A connection was ended before any route was asked."""

    reason: CutReason
    status: int | None
    """What it was answered; None where it was closed without a word."""


class Started(msgspec.Struct, frozen=True):
    public: str
    operations: str
    store: str
    presence: str
    sites: int


class Draining(msgspec.Struct, frozen=True):
    """Told to stop: not ready any more, and what comes all the same is taken until the stop begins."""


class Stopping(msgspec.Struct, frozen=True):
    """Nothing new is taken; what is here is being committed and answered."""


class Stopped(msgspec.Struct, frozen=True):
    """All that was accepted is durable, and the files are closed."""


class SitesChanged(msgspec.Struct, frozen=True):
    """The sites or their baselines were changed from outside and have been read again."""

    sites: int


class ClockStepped(msgspec.Struct, frozen=True):
    """Somebody set the wall clock while the service ran."""

    seconds: float
    """How far; negative when it went back."""


class PresenceLost(msgspec.Struct, frozen=True):
    """What the nodes share about visitors can't be reached: this one decides by itself."""

    error: str


class PresenceFound(msgspec.Struct, frozen=True):
    """It was reached again, and knows what was counted meanwhile."""


class Fault(msgspec.Struct, frozen=True):
    """Something that should not happen did; the service goes on."""

    where: str
    error: str
    traceback: str

    @classmethod
    def of(cls, where: str, exc: BaseException) -> "Fault":
        return cls(where, f"{type(exc).__name__}: {exc}", "".join(tracebacks.format_exception(exc)))


Announcement = (
    Committed
    | CommitFailed
    | StoreAway
    | StoreBack
    | Dropped
    | Limited
    | Capped
    | Folded
    | Rejected
    | ProxyNotTrusted
    | Cut
    | Started
    | Draining
    | Stopping
    | Stopped
    | SitesChanged
    | ClockStepped
    | PresenceLost
    | PresenceFound
    | Fault
)


class Observer(Protocol):
    """Hears what happened after it happened. Must not block."""

    def notice(self, announcement: Announcement) -> None: ...


class Announcer:
    """Tells every observer. One that raises is told of to the others, and is nobody else's problem."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def __call__(self, announcement: Announcement) -> None:
        for observer in self._observers:
            try:
                observer.notice(announcement)
            except Exception as exc:  # noqa: BLE001 - whatever it raises
                if not isinstance(announcement, Fault):
                    self(Fault.of(f"observer {type(observer).__name__}", exc))
