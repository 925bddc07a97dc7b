"""How much a store grows over a month of a portal's readers, with the clock set and everything else real."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.inside import Inside, inside
from statsvc.duplicates import RECEIPT_SECONDS
from statsvc.housekeeping import CLOCK_STEP_MS, TIDY_SECONDS
from statsvc.model import Hit, Moment

DAY_MS = 24 * 3600 * 1000
BEGAN_MS = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000)
EVENTS_A_VISITOR = 3
SITTING_MS = 15 * 60 * 1000
"""How long a visitor's events lie apart at most."""
BATCH = 50
"""Events in a commit."""


class Month(msgspec.Struct, frozen=True):
    events: int
    grown_bytes: int


class _Event(NamedTuple):
    at_ms: int
    visitor: int
    path: str
    name: str


async def live(store: Path, days: int, visitors_a_day: int, pages: int) -> Month:
    """The store's growth: file and log, after what is no longer needed was destroyed."""
    chance = random.Random(1)
    async with inside(store, "hue.gov.vn", Moment(BEGAN_MS, BEGAN_MS)) as core:
        await _tidy(core, BEGAN_MS)
        before = await _bytes(core)
        events, tidied_ms = 0, BEGAN_MS
        for day in range(days):
            of_day = sorted(_day(BEGAN_MS + day * DAY_MS, visitors_a_day, pages, chance))
            for first in range(0, len(of_day), BATCH):
                batch = of_day[first : first + BATCH]
                await core.record([_hit(core, event) for event in batch])
                events += len(batch)
                if batch[-1].at_ms - tidied_ms >= TIDY_SECONDS * 1000:
                    tidied_ms = batch[-1].at_ms
                    await _tidy(core, tidied_ms)
        await _tidy(core, BEGAN_MS + days * DAY_MS)
        return Month(events, await _bytes(core) - before)


def _hit(core: Inside, event: _Event) -> Hit:
    return core.hit(event.visitor, event.path, event.name, Moment(event.at_ms, event.at_ms))


def _day(began_ms: int, visitors: int, pages: int, chance: random.Random) -> Iterator[_Event]:
    """Each visitor's events; some pages are read more, and 40 % of events are of reading on."""
    for _ in range(visitors):
        visitor = chance.getrandbits(60)
        at_ms = began_ms + chance.randrange(DAY_MS - SITTING_MS)
        for number in range(EVENTS_A_VISITOR):
            path = f"/tin-tuc/{int(pages * chance.random() ** 2)}"
            name = "engagement" if number and chance.random() < 0.6 else "pageview"
            yield _Event(at_ms + chance.randrange(SITTING_MS) * (number > 0), visitor, path, name)


async def _tidy(core: Inside, at_ms: int) -> None:
    """As `housekeeping.py` does it."""
    day_before = datetime.fromtimestamp((at_ms - DAY_MS) / 1000, UTC).date().isoformat()
    visits_before_ms = at_ms - 1000 * core.site.visit_gap_seconds - CLOCK_STEP_MS
    await core.store.forget(visits_before_ms, at_ms - RECEIPT_SECONDS * 1000, day_before)
    await core.presence.trim(Moment(at_ms, at_ms))


async def _bytes(core: Inside) -> int:
    space = await core.store.space()
    return space.data_bytes + (space.log_bytes or 0)
