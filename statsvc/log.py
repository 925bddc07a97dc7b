"""Logs: one JSON object a line on standard error, in ASCII. Never an address or a User-Agent.

What visitors do is counted, not logged: there is no line for a hit.
"""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import structlog

from statsvc.announcements import (
    Announcement,
    ClockStepped,
    CommitFailed,
    Committed,
    Draining,
    Fault,
    PresenceFound,
    PresenceLost,
    ProxyNotTrusted,
    SitesChanged,
    Started,
    Stopped,
    Stopping,
    StoreAway,
    StoreBack,
)


def _dumps(event: Mapping[str, Any], **_: Any) -> str:
    """In ASCII, so that no text can end a line, move a terminal's cursor or turn its letters around."""
    return json.dumps(event, default=str, separators=(",", ":")).replace("\x7f", "\\u007f")


def configure() -> None:
    """Send structlog's and the standard library's lines to standard error as JSON."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_ToStructlog()], level=logging.WARNING, force=True)
    # It logs a traceback for each request that isn't HTTP; our own handlers report their faults.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(record.levelno, record.getMessage(), logger=record.name)


class LogObserver:
    """Implements `announcements.Observer`."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._told_of_proxy = False
        self._failure: tuple[str, bool] | None = None

    def notice(self, announcement: Announcement) -> None:
        match announcement:
            case Started():
                self._log.info(
                    "started",
                    public=announcement.public,
                    operations=announcement.operations,
                    store=announcement.store,
                    presence=announcement.presence,
                    sites=announcement.sites,
                )
            case Draining():
                self._log.info("draining")
            case Stopping():
                self._log.info("stopping")
            case Stopped():
                self._log.info("stopped")
            case SitesChanged():
                self._log.info("sites read again", sites=announcement.sites)
            case ProxyNotTrusted() if not self._told_of_proxy:
                self._told_of_proxy = True  # there may be one for each event
                self._log.warning(
                    "events come through a proxy that is not trusted: all its visitors are taken for one;"
                    " name its network with --trusted-proxy",
                )
            case ClockStepped():
                self._log.warning("the wall clock was set", seconds=announcement.seconds)
            case PresenceLost():
                self._log.error(
                    "the shared presence can't be reached: events are counted, who is current is not known",
                    error=announcement.error,
                )
            case PresenceFound():
                self._log.info("the shared presence is used again")
            case CommitFailed() if (announcement.error, announcement.given_up) != self._failure:
                # Once: a full disk may last for hours, and there are hundreds of batches a second.
                self._failure = (announcement.error, announcement.given_up)
                self._log.error(
                    "commit failed",
                    error=announcement.error,
                    events=announcement.events,
                    given_up=announcement.given_up,
                )
            case Committed() if self._failure is not None:
                self._failure = None
                self._log.info("commits succeed again")
            case StoreAway():
                self._log.error(
                    "the store can't be reached: events are kept in the outbox", error=announcement.error
                )
            case StoreBack():
                self._log.info("the store is back", undelivered_batches=announcement.batches)
            case Fault():
                self._log.error(
                    "fault",
                    where=announcement.where,
                    error=announcement.error,
                    traceback=announcement.traceback,
                )
            case _:
                pass
