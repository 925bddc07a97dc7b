"""What tests agree on: a clock that is set, a moment, a site, hits made of little, and one site's history."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from zoneinfo import ZoneInfo

from statsvc.calendar import local_hour
from statsvc.model import History, Hit, Identity, Moment, Site
from statsvc.ports import Store

ZONE = "Asia/Ho_Chi_Minh"


def wall_ms(text: str, zone: str = ZONE) -> int:
    """Milliseconds since the epoch of a local time such as 2026-11-23 12:00."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


NOON_MS = wall_ms("2026-11-23 12:00")
SITE = Site(id=1, domain="hue.gov.vn", time_zone=ZONE)


class FakeClock:
    """Implements `ports.Clock`: time passes when told to."""

    def __init__(self, wall_ms: int) -> None:
        self._now = Moment(wall_ms, 10**11)

    def now(self) -> Moment:
        return self._now

    def advance(self, seconds: float) -> Moment:
        """Time passes."""
        ms = round(seconds * 1000)
        self._now = Moment(self._now.wall_ms + ms, self._now.steady_ms + ms)
        return self._now

    def step(self, seconds: float) -> Moment:
        """Somebody sets the wall clock; no time passes."""
        self._now = Moment(self._now.wall_ms + round(seconds * 1000), self._now.steady_ms)
        return self._now

    def set(self, wall_ms: int) -> Moment:
        """Time passes until then."""
        return self.advance((wall_ms - self._now.wall_ms) / 1000)


async def seconds_pass(clock: FakeClock) -> AsyncIterator[None]:
    """Few of the clock's, in which nobody's window ends, however many of a slow machine's. A minute at most."""
    pause = 0.01
    for _ in range(70):
        yield
        clock.advance(1)
        await asyncio.sleep(pause)
        pause = min(1.0, pause * 1.5)
    raise AssertionError("it did not come to be")


def hit(
    at: Moment,
    visitor: int = 1,
    path: str = "/",
    name: str = "pageview",
    *,
    site: Site = SITE,
    bot: bool = False,
    formerly: tuple[int, ...] = (),
    receipt: int | None = None,
) -> Hit:
    hour = local_hour(site.zone, at.wall_ms)
    return Hit(site, Identity(visitor, formerly), bot, name, path, hour, at, receipt=receipt)


async def history_of(store: Store, site_id: int, first_day: str, today: str) -> History:
    """One site's."""
    return (await store.histories([(site_id, first_day, today)]))[0]
