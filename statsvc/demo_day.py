"""A believable day on made-up portals: when visitors come, what they read, who comes back. Pure.

Time runs in two ways here: the day's hours (the curve), and the seconds of the play, into which the day
is pressed. What people do within a visit is not pressed: they read for some seconds of the play.
"""

import heapq
import random
from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

HOURS = (
    *(0.16, 0.10, 0.07, 0.06, 0.07, 0.14, 0.32, 0.58, 0.88, 1.00, 0.97, 0.80),
    *(0.62, 0.74, 0.92, 0.95, 0.88, 0.72, 0.58, 0.63, 0.72, 0.66, 0.46, 0.28),
)
"""How busy a public portal is at each hour of its day; at the busiest it is 1."""
FIRST_HOUR = 6.0
"""The play begins in the morning, so that the first thing seen is a rise."""
DAY_SECONDS = 24 * 3600

PAGEVIEWS_OF_A_VISIT = 3.0
"""On average; most visits are short, and some long."""
EVENTS_OF_A_PAGEVIEW = 1.25
"""With what is reported while a page is read."""
READING_SECONDS = 12.0
"""From one page to the next, on average."""
RETURNING = 0.35
"""Of the visits, those of somebody who was here before."""
BOTS = 0.12
"""Of the pageviews at the busiest hour; bots come as often by night."""
REMEMBERED = 2000
"""Visitors of a site who may come back."""

PATHS = (
    *("/", "/tin-tuc", "/dich-vu-cong", "/thu-tuc-hanh-chinh", "/van-ban", "/lien-he", "/lich-tiep-dan"),
    *(f"/tin-tuc/{number}" for number in range(1, 25)),
    *(f"/thu-tuc-hanh-chinh/{number}" for number in range(1, 12)),
)
"""The first are read most."""
SPIKE_PATH = "/tin-tuc/thong-bao-khan"
BOTS_USER_AGENTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; coccocbot-web/1.0; +http://help.coccoc.com/searchengine)",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "python-requests/2.32.3",
)


class Spike(NamedTuple):
    """For a while the first site has so many times its readers: all of one page."""

    begins: float
    """Seconds of the play."""
    ends: float
    factor: float


class Day(NamedTuple):
    """What is to be played."""

    sites: Sequence[str]
    """Each has half as many readers as the one before."""
    seconds: float
    """How long the play is."""
    speed: float
    """Seconds of the day in a second of the play."""
    events_per_second: float
    """Of all sites at the busiest hour, without the spike."""
    spike: Spike | None = None


class Planned(NamedTuple):
    """An event to send, `at` seconds from the play's beginning."""

    at: float
    site: str
    user_agent: str
    name: str
    path: str


def hour_at(day: Day, at: float) -> float:
    """The hour of the made-up day, from 0 to 24, at a second of the play."""
    return (FIRST_HOUR + at * day.speed / 3600) % 24


def busy(hour: float) -> float:
    """How busy it is, from 0 to 1; straight lines between the hours."""
    whole, part = divmod(hour, 1)
    here, there = HOURS[int(whole) % 24], HOURS[int(whole + 1) % 24]
    return here + (there - here) * part


def plan(day: Day, chance: random.Random) -> Iterator[Planned]:
    """The events of the play, in order of time; the same for the same `chance`."""
    shares = [0.5**place for place in range(len(day.sites))]
    numbers = iter(range(1_000_000_000))
    return heapq.merge(
        *(
            stream
            for place, (site, share) in enumerate(zip(day.sites, shares, strict=True))
            for stream in (
                _people(day, site, share / sum(shares), day.spike if place == 0 else None, numbers, chance),
                _bots(day, site, share / sum(shares), chance),
            )
        )
    )


def _people(
    day: Day, site: str, share: float, spike: Spike | None, numbers: Iterator[int], chance: random.Random
) -> Iterator[Planned]:
    visits_per_second = (
        day.events_per_second * share * (1 - BOTS) / (PAGEVIEWS_OF_A_VISIT * EVENTS_OF_A_PAGEVIEW)
    )
    known: list[int] = []
    waiting: list[Planned] = []
    at = 0.0
    most = spike.factor if spike else 1.0
    while True:
        # Arrivals of a Poisson process whose rate changes: https://en.wikipedia.org/wiki/Poisson_point_process
        # (thinning): as often as at the very most, and then kept by how much less it is now.
        at += chance.expovariate(visits_per_second * most)
        if at >= day.seconds:
            break
        while waiting and waiting[0].at <= at:
            yield heapq.heappop(waiting)
        in_spike = spike is not None and spike.begins <= at < spike.ends
        factor = most if in_spike else 1.0
        if chance.random() * most >= factor * busy(hour_at(day, at)):
            continue
        news = in_spike and chance.random() > 1 / factor
        for event in _visit(site, at, _visitor(known, numbers, chance), news, chance):
            if event.at < day.seconds:
                heapq.heappush(waiting, event)
    while waiting:
        yield heapq.heappop(waiting)


def _visitor(known: list[int], numbers: Iterator[int], chance: random.Random) -> int:
    if known and chance.random() < RETURNING:
        return chance.choice(known)
    number = next(numbers)
    if len(known) < REMEMBERED:
        known.append(number)
    else:
        known[chance.randrange(REMEMBERED)] = number
    return number


def _visit(site: str, at: float, visitor: int, news: bool, chance: random.Random) -> Iterator[Planned]:
    """One visitor reads some pages; whoever stays with one reports it."""
    browser = user_agent(visitor)
    path = SPIKE_PATH if news else _path(chance)
    while True:
        yield Planned(at, site, browser, "pageview", path)
        reading = chance.expovariate(1 / READING_SECONDS)
        if chance.random() < EVENTS_OF_A_PAGEVIEW - 1:
            yield Planned(at + reading / 2, site, browser, "engagement", path)
        if chance.random() < 1 / PAGEVIEWS_OF_A_VISIT:
            return
        at += max(1.0, reading)
        path = _path(chance)


def _bots(day: Day, site: str, share: float, chance: random.Random) -> Iterator[Planned]:
    at = 0.0
    while (at := at + chance.expovariate(day.events_per_second * share * BOTS)) < day.seconds:
        yield Planned(at, site, chance.choice(BOTS_USER_AGENTS), "pageview", _path(chance))


_WEIGHTS = tuple(accumulate(1 / (place + 1) for place in range(len(PATHS))))


def _path(chance: random.Random) -> str:
    return PATHS[bisect(_WEIGHTS, chance.random() * _WEIGHTS[-1])]


_ANDROIDS = ("SM-A155F", "SM-A546E", "SM-S918B", "CPH2565", "V2247", "2201117TG", "M2101K6G", "Pixel 8")
_COMPUTERS = (
    *("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64"),
    "Windows NT 10.0; WOW64",
)


def user_agent(visitor: int) -> str:
    """A browser as real ones call themselves, and for each number another."""
    version, kind = divmod(visitor, 3)
    build, major = divmod(version, 30)
    if kind == 0:
        build, place = divmod(build, len(_ANDROIDS))
        system, mobile = f"Linux; Android {11 + major % 5}; {_ANDROIDS[place]}", " Mobile"
    elif kind == 1:
        build, place = divmod(build, len(_COMPUTERS))
        system, mobile = _COMPUTERS[place], ""
    else:
        return (
            f"Mozilla/5.0 (iPhone; CPU iPhone OS 17_{major} like Mac OS X) AppleWebKit/605.1.15"
            f" (KHTML, like Gecko) Version/17.{major} Mobile/15E{148 + build} Safari/604.1"
        )
    return (
        f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{111 + major}.0.{5000 + build // 200}.{build % 200}{mobile} Safari/537.36"
    )
