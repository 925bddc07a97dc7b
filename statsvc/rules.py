"""The rules an event is judged by. Pure: an event and its circumstances in, a hit or a drop out."""

import re
from functools import lru_cache
from hashlib import blake2b
from urllib.parse import unquote, urlsplit

from statsvc.bots import is_bot
from statsvc.calendar import LocalHour
from statsvc.errors import InvalidEvent
from statsvc.model import DropReason, Event, Hit, Identity, Moment, Page, Sender, Site
from statsvc.tally import ENGAGEMENT

LONGEST_URL_BYTES = 2000
LONGEST_PATH = 500
"""Characters of a normalised path; the rest is cut, so that it still counts, for its beginning."""
APP_SCHEME = "app"
SCHEMES = ("http", "https", APP_SCHEME)

_PLAIN_URL = re.compile(r"(https?)://([a-z0-9.-]*[a-z0-9])(/[a-zA-Z0-9/._~-]*)?([?#][!-~]*)?")
"""Nothing in its host and path has to be decoded: as in most, which are read in a fifth of the time."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def judge(  # every circumstance is an argument, so that a case can be told in one line
    event: Event, page: Page, site: Site, sender: Sender, identity: Identity, hour: LocalHour, at: Moment
) -> Hit | DropReason:
    """Whether an event counts for `site`, and for which audience."""
    if not site.owns(page.host):
        return DropReason.HOSTNAME
    if sender.sign is DropReason.PREFETCH:
        return sender.sign
    dropped = _told_by(event, page, sender)
    # Of engagement there is nothing to count twice, and a page's has the id of its view.
    receipt = receipt_of(site, event) if event.id and event.name != ENGAGEMENT else None
    return Hit(site, identity, dropped is not None, event.name, page.path, hour, at, dropped, receipt)


def receipt_of(site: Site, event: Event) -> int:
    """60 bits of a hash of the site, the event's name and its id."""
    text = f"{site.id}\n{event.name}\n{event.id}".encode(errors="replace")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 4


def _told_by(event: Event, page: Page, sender: Sender) -> DropReason | None:
    """What tells that a program, not a person, sees the page; None for a person."""
    # An app talks through its platform's HTTP library: in a browser's place that name tells a bot.
    if page.scheme != APP_SCHEME and is_bot(sender.user_agent):
        return DropReason.BOT
    if event.automated:
        return DropReason.HEADLESS
    return None if page.scheme == APP_SCHEME else sender.sign


@lru_cache(maxsize=4096)
def page_of(url: str) -> Page:
    """Where `url` points. Raises InvalidEvent for what is no page of a site or an app."""
    if len(url) <= LONGEST_URL_BYTES and (plain := _PLAIN_URL.fullmatch(url)):
        scheme, host, path, _ = plain.groups("")
        return Page(scheme, host, _shortened(path))
    if len(url.encode(errors="replace")) > LONGEST_URL_BYTES:
        size = len(url.encode(errors="replace"))
        raise InvalidEvent({"url": [f"is {size:,} bytes long, at most {LONGEST_URL_BYTES:,} are taken"]})
    try:
        parts = urlsplit(url)
        host = normal_host(parts.hostname or "")
        _ = parts.port  # raises where it is none
    except ValueError as exc:
        raise InvalidEvent({"url": [f"is not a URL: {exc}"]}) from None
    if parts.scheme not in SCHEMES:
        raise InvalidEvent({"url": [f"must begin with {', '.join(s + '://' for s in SCHEMES)}"]})
    if not host:
        raise InvalidEvent({"url": ["names no host"]})
    return Page(parts.scheme, host, normal_path(parts.path))


def normal_host(host: str) -> str:
    """A host as sites are registered: lower case, ASCII (IDNA), without a dot at its end.

    A name that IDNA can't encode stays as it is; it then matches no site.
    """
    host = host.strip().rstrip(".").lower()
    if not host.isascii():
        try:
            return host.encode("idna").decode()
        except UnicodeError:
            return host
    return host


def normal_path(path: str) -> str:
    """One page, one path: percent-decoded, no slash at the end, no control characters, not too long."""
    return _shortened(without_controls(unquote(path, errors="replace")))


def _shortened(path: str) -> str:
    return path[:LONGEST_PATH].rstrip("/") or "/"


def without_controls(text: str) -> str:
    """Text that every store, log and page can have: control characters are replaced."""
    return text if text.isprintable() else _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
