"""`statsvc demo`: plays a day of made-up portals against a running service, as browsers would: over HTTP."""

import argparse
import asyncio
import os
import random
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import aiohttp
import orjson

from statsvc.backends import opened_store
from statsvc.clock import SystemClock
from statsvc.config import STORE, StoreUrl, add_options, load, parse_domain
from statsvc.demo_day import DAY_SECONDS, Day, Planned, Spike, hour_at, plan
from statsvc.errors import ConfigError, SiteError
from statsvc.model import Site
from statsvc.progress import Progress

SITES = ("hue.example", "danang.example", "thuvien.example")
TIME_ZONE = "Asia/Ho_Chi_Minh"
WINDOW_SECONDS = 60
VISIT_GAP_SECONDS = 120
"""Sites registered for the demo forget faster: so that a day in minutes has rises, falls and returns."""
SPIKE_BEGINS, SPIKE_ENDS = 0.4, 0.65
"""Parts of the play."""
IN_FLIGHT = 64
MOST_LATE_SECONDS = 1.0
"""Where the service is slower than the play, the play waits: it never hurries to catch up."""
ANSWER_SECONDS = 30
REGISTERED_SECONDS = 3.0
"""How soon a running service should know of a new site; it takes a second at most."""
T = TypeVar("T", int, float)


def add_to(commands: Any) -> None:
    """Add `demo` to the program's commands."""
    demo: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="play a day of made-up portals against a running service",
        description="Play a day of made-up portals against a running service, pressed into minutes: a"
        " morning's rise, bots, people who come back, and one spike. What it sends is counted: play on a"
        " store that you can throw away.",
    )
    demo.add_argument("--url", default="http://localhost:8080", help="the service (default: %(default)s)")
    demo.add_argument(
        "--sites",
        nargs="+",
        metavar="DOMAIN",
        default=list(SITES),
        help=f"each with half as many readers as the one before (default: {' '.join(SITES)})",
    )
    demo.add_argument(
        "--minutes",
        type=_number(float, 0.01, 10_000),
        default=15.0,
        metavar="M",
        help="how long (default: 15)",
    )
    demo.add_argument(
        "--speed",
        type=_number(float, 0.01, 10_000),
        metavar="N",
        help="how much faster than a real day (default: so that it is one day)",
    )
    demo.add_argument(
        "--rate",
        type=_number(float, 0.1, 2000),
        default=20.0,
        metavar="N",
        help="events per second at the busiest hour, of all sites together (default: 20)",
    )
    demo.add_argument(
        "--spike",
        type=_number(float, 1, 50),
        default=8.0,
        metavar="N",
        help="so many times the readers of the first site, for a quarter of the play; 1 is none (default: 8)",
    )
    demo.add_argument("--seed", type=int, metavar="N", help="play the same day again")
    add_options(demo, (STORE,))
    demo.set_defaults(run=lambda given: asyncio.run(_run(given)))


async def _run(given: argparse.Namespace) -> int:
    try:
        sites = [parse_domain(domain) for domain in given.sites]
    except ValueError as exc:
        raise ConfigError([f"--sites: {exc}"]) from None
    seconds = given.minutes * 60
    spike = Spike(SPIKE_BEGINS * seconds, SPIKE_ENDS * seconds, given.spike) if given.spike > 1 else None
    day = Day(sites, seconds, given.speed or DAY_SECONDS / seconds, given.rate, spike)
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=IN_FLIGHT), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        if not given.url.startswith(("http://", "https://")):
            raise ConfigError([f"--url: expected http:// or https://, got {given.url!r}"])
        service = _Service(given.url, session)
        await _register(service, sites, _store(given))
        before = {site: await service.totals(site) for site in sites}
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopped.set)
        play = _Play(service, day, Progress())
        chance = random.Random(given.seed)  # noqa: S311 - a made-up day is no secret
        print(f"playing {given.minutes:g} minutes on {', '.join(sites)}; Ctrl-C ends it", flush=True)
        try:
            await play.run(chance, stopped)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        play.print_summary()
        for site in sites:
            _print_counted(site, play.people[site], before[site], await service.totals(site))
    if stopped.is_set():
        return 130
    return 0 if play.acknowledged else 1


class _Service:
    """The service, as browsers reach it."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url.rstrip("/")
        self._session = session

    async def totals(self, site: str) -> dict[str, Any]:
        """The site's totals; empty where it is private. Raises SiteError where it isn't registered."""
        try:
            async with self._session.get(f"{self.url}/api/totals", params={"site": site}) as response:
                match response.status:
                    case 200:
                        totals: dict[str, Any] = orjson.loads(await response.read())
                        return totals
                    case 403:
                        return {}
                    case 404:
                        raise SiteError(f"{site} isn't registered at {self.url}")
                raise ConfigError([f"--url: {self.url} answers {response.status} {response.reason}"])
        except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
            raise ConfigError([f"--url: no statsvc answers at {self.url}: {exc}"]) from None

    async def send(self, event: Planned) -> tuple[str, bool]:
        """What became of it: the status or what went wrong, and whether it is a person's and counted."""
        body = orjson.dumps({"n": event.name, "u": f"https://{event.site}{event.path}", "d": event.site})
        headers = {"User-Agent": event.user_agent, "Content-Type": "text/plain"}
        try:
            async with self._session.post(f"{self.url}/api/event", data=body, headers=headers) as response:
                await response.read()
                return str(response.status), "X-Statsvc-Dropped" not in response.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            return f"no answer, {type(exc).__name__}", False


async def _register(service: _Service, sites: Sequence[str], store: StoreUrl | None) -> None:
    """See that the sites are there: register those that are new where the store is known."""
    new = []
    for site in sites:
        try:
            await service.totals(site)
        except SiteError:
            new.append(site)
    if not new:
        return
    if store is None:
        options = f"--window {WINDOW_SECONDS} --visit-gap {VISIT_GAP_SECONDS} --time-zone {TIME_ZONE}"
        orders = "\n".join(f"    statsvc site add {site} {options}" for site in new)
        raise SiteError(
            f"{', '.join(new)}: not registered at {service.url}. Give its --store, or run:\n{orders}"
        )
    async with opened_store(store) as opened:
        for site in new:
            settings = Site(
                id=0,
                domain=site,
                time_zone=TIME_ZONE,
                window_seconds=WINDOW_SECONDS,
                visit_gap_seconds=VISIT_GAP_SECONDS,
            )
            await opened.registry.add(settings, SystemClock().now().wall_ms)
    end = time.monotonic() + REGISTERED_SECONDS
    for site in new:
        while True:
            try:
                await service.totals(site)
                break
            except SiteError:
                if time.monotonic() > end:
                    raise SiteError(
                        f"{site} was registered in {store}, but {service.url} doesn't know it:"
                        " it serves from another store"
                    ) from None
                await asyncio.sleep(0.1)


class _Play:
    def __init__(self, service: _Service, day: Day, progress: Progress) -> None:
        self._service = service
        self._day = day
        self._progress = progress
        self.outcomes = Counter[str]()
        self.people = Counter[str]()
        """Acknowledged pageviews of people, by site."""
        self._answer_seconds: list[float] = []
        self._recent: deque[float] = deque(maxlen=1000)
        self._played = 0.0

    @property
    def acknowledged(self) -> int:
        return self.outcomes["202"]

    async def run(self, chance: random.Random, stopped: asyncio.Event) -> None:
        """Send what is planned when it is due, to the end or until `stopped`; let what is under way end."""
        slots = asyncio.Semaphore(IN_FLIGHT)
        began = time.monotonic()
        async with asyncio.TaskGroup() as sending:
            for event in plan(self._day, chance):
                while (early := began + event.at - time.monotonic()) > 0 and not stopped.is_set():
                    self._show(time.monotonic() - began)
                    await _either(stopped, min(early, 0.2))
                await slots.acquire()
                if stopped.is_set():
                    break
                late = time.monotonic() - began - event.at
                began += max(0.0, late - MOST_LATE_SECONDS)
                sending.create_task(self._send(event, slots))
                self._show(event.at)
        self._progress.clear()

    async def _send(self, event: Planned, slots: asyncio.Semaphore) -> None:
        began = time.monotonic()
        self._recent.append(began)
        try:
            outcome, counted = await self._service.send(event)
        finally:
            slots.release()
        self._answer_seconds.append(time.monotonic() - began)
        self.outcomes[outcome] += 1
        if outcome == "202" and counted and event.name == "pageview":
            self.people[event.site] += 1

    def _show(self, at: float) -> None:
        self._played = at
        if not self._progress.shown:
            return
        hour = hour_at(self._day, at)
        since = time.monotonic() - 2
        per_second = sum(sent > since for sent in self._recent) / 2
        spike = self._day.spike
        refused = self.outcomes.total() - self.acknowledged
        now = f"{int(hour):02}:{int(hour % 1 * 60):02}"
        if spike and spike.begins <= at < spike.ends:
            now += " spike"
        self._progress(
            f"{now} {per_second:.0f} events/s, {self.acknowledged:,} acknowledged"
            + (f", {refused:,} refused" if refused else ""),
            at / self._day.seconds,
        )

    def print_summary(self) -> None:
        print(
            f"sent {self.outcomes.total():,} events in {self._played / 60:.1f} minutes:"
            f" {self.acknowledged:,} acknowledged"
            + "".join(
                f", {count:,} refused ({what})" for what, count in self.outcomes.items() if what != "202"
            )
        )
        if seconds := sorted(self._answer_seconds):
            half, most = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
            print(
                f"half of the answers came within {half * 1000:.1f} ms, 99 of 100 within {most * 1000:.1f} ms"
            )


def _print_counted(site: str, acknowledged: int, before: dict[str, Any], after: dict[str, Any]) -> None:
    if not before or not after:
        print(f"{site}: {acknowledged:,} pageviews of people acknowledged; its totals are private")
        return
    counted = {key: after[key]["total"] - before[key]["total"] for key in ("pageviews", "visits")}
    print(
        f"{site}: {acknowledged:,} pageviews of people acknowledged, {counted['pageviews']:,} counted,"
        f" in {counted['visits']:,} visits; {after['visitors']['today']:,} visitors today,"
        f" {after['current']['visitors']:,} current"
    )


async def _either(stopped: asyncio.Event, seconds: float) -> None:
    """Until then, or until `stopped`."""
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        pass


def _store(given: argparse.Namespace) -> StoreUrl | None:
    """The service's store where it was named; a store in the default place may be another's."""
    if given.store is None and not os.environ.get(STORE.variable):
        return None
    store: StoreUrl = load(vars(given), os.environ, (STORE,))["store"]
    return store


def _number(kind: type[T], least: T, most: T) -> Callable[[str], T]:
    def parse(text: str) -> T:
        try:
            number = kind(text)
        except ValueError:
            number = least - 1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g} to {most:,g}, got {text!r}")
        return number

    return parse
