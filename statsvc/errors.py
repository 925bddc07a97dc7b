"""Everything statsvc raises on purpose.

StatsvcError
├── ConfigError        a setting that cannot be used; names every bad one at once
├── InvalidEvent       an event that does not say what it must; names the bad fields
├── UnknownSite        an event or a question about a site that is not registered
├── Refused            a request that is not answered as asked; names the HTTP status
├── SiteError          a site, baseline or token command that cannot be carried out
│   ├── NoSuchSite     about a site that is not registered
│   ├── NoSuchToken    about a token that is not there, or of another site
│   └── SiteTaken      the site, or a host of it, is registered already
├── Unavailable        not recorded now; come back after `retry_after_seconds`
│   └── TooManyEvents  more than one visitor or network may send
├── PresenceError      the shared presence can't be reached; what it was told, it may know or not
└── StoreError         the store could not do what was asked; nothing was changed
    ├── StoreInUse     another process serves from this store
    ├── Unreachable    a store in a network is away; who noticed it has told the log
    ├── SchemaTooNew   written by a newer statsvc than this one
    └── StoreDamaged   the file is not a statsvc database, or no longer a sound one
"""

from collections.abc import Mapping, Sequence


class StatsvcError(Exception):
    """The base of all errors below; its text is a sentence for people."""


class ConfigError(StatsvcError):
    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class InvalidEvent(StatsvcError):
    """`fields` maps the long name of each wrong field to what is wrong with it."""

    def __init__(self, fields: Mapping[str, Sequence[str]]) -> None:
        super().__init__("; ".join(f"{name}: {', '.join(wrong)}" for name, wrong in fields.items()))
        self.fields = {name: list(wrong) for name, wrong in fields.items()}


class UnknownSite(StatsvcError):
    def __init__(self, domain: str) -> None:
        super().__init__(f"no site {domain[:200]!r} is registered here")


class Refused(StatsvcError):
    """`headers` go with the answer; `close` ends the connection after it."""

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None, *, close: bool = False
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers
        self.close = close


class SiteError(StatsvcError):
    pass


class NoSuchSite(SiteError):
    pass


class NoSuchToken(SiteError):
    pass


class SiteTaken(SiteError):
    pass


class Unavailable(StatsvcError):
    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyEvents(Unavailable):
    def __init__(self, limit: str, retry_after_seconds: int) -> None:
        super().__init__(f"this {limit} sends more events than are taken from one", retry_after_seconds)
        self.limit = limit


class PresenceError(StatsvcError):
    pass


class StoreError(StatsvcError):
    pass


class StoreInUse(StoreError):
    pass


class Unreachable(StoreError):
    pass


class SchemaTooNew(StoreError):
    pass


class StoreDamaged(StoreError):
    pass
