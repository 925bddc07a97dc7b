"""Folding a batch of hits into the counts its commit adds. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from statsvc.calendar import LocalHour
from statsvc.model import Hit, Peak, Touch

PAGEVIEW = "pageview"
ENGAGEMENT = "engagement"

HourKey = tuple[int, int, bool]
DayKey = tuple[int, str, bool]
PageKey = tuple[int, str, str]
NameKey = tuple[int, str, bool, str]


class Tally(msgspec.Struct):
    """What a batch adds, each figure once. Keys begin with the site's id; `bot` tells the audience.

    Pages are counted for people only. Folding any split of the same hits adds up to the same tally.
    """

    hours: dict[HourKey, list[int]] = {}
    """(site, start of the local hour, bot): visits, pageviews, events."""
    days: dict[DayKey, list[int]] = {}
    """(site, local day, bot): visits, pageviews, visitors."""
    pages: dict[PageKey, list[int]] = {}
    """(site, local day, path): visits, pageviews."""
    names: dict[NameKey, int] = {}
    """(site, local day, bot, event name): events."""
    newcomers: dict[DayKey, list[int]] = {}
    """(site, local day, bot): ids of the visitors seen for the first time that day."""
    peaks: dict[tuple[int, str], Peak] = {}
    """(site, local day): the most current visitors while this batch was touched."""


def fold(hits: Sequence[Hit], touches: Iterable[Touch], peaks: dict[tuple[int, str], Peak]) -> Tally:
    """The tally of `hits`, of which `touches` says, in the same order, what each began."""
    tally = Tally(peaks=peaks)
    of: tuple[int, LocalHour, bool] | None = None
    for hit, touch in zip(hits, touches, strict=True):
        if of != (hit.site.id, hit.hour, hit.bot):  # most hits are of the same as the one before
            of = site, hour, bot = hit.site.id, hit.hour, hit.bot
            of_hour = tally.hours.setdefault((site, hour.start, bot), [0, 0, 0])
            of_day = tally.days.setdefault((site, hour.day, bot), [0, 0, 0])
        pageview = hit.name == PAGEVIEW
        of_hour[0] += touch.visit
        of_hour[1] += pageview
        of_hour[2] += 1
        of_day[0] += touch.visit
        of_day[1] += pageview
        of_day[2] += touch.visitor
        if not bot and (touch.page_visit or pageview):
            page = tally.pages.setdefault((site, hour.day, hit.path), [0, 0])
            page[0] += touch.page_visit
            page[1] += pageview
        name = (site, hour.day, bot, hit.name)
        tally.names[name] = tally.names.get(name, 0) + 1
        if touch.visitor:
            tally.newcomers.setdefault((site, hour.day, bot), []).append(hit.identity.visitor)
    return tally


def add(total: Tally, more: Tally) -> None:
    """Add what another batch adds to `total`, which keeps no part of it."""
    for of_all, of_more in ((total.hours, more.hours), (total.days, more.days), (total.pages, more.pages)):
        _add_rows(of_all, of_more)
    for name, events in more.names.items():
        total.names[name] = total.names.get(name, 0) + events
    for day, visitors in more.newcomers.items():
        total.newcomers.setdefault(day, []).extend(visitors)
    for site_day, peak in more.peaks.items():
        total.peaks[site_day] = higher(total.peaks.get(site_day), peak)


def higher(known: Peak | None, other: Peak) -> Peak:
    """Of two that are as high, the one that is known."""
    return other if known is None or other.visitors > known.visitors else known


def _add_rows(total: dict[Any, list[int]], more: Mapping[Any, list[int]]) -> None:
    for key, counts in more.items():
        row = total.get(key)
        if row is None:
            total[key] = [*counts]
        else:
            for place, count in enumerate(counts):
                row[place] += count
