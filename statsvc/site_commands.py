"""`statsvc site …`: the sites, their settings, baselines and tokens. Works beside a running service."""

import argparse
import asyncio
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from statsvc.calendar import timestamp
from statsvc.clock import SystemClock
from statsvc.config import STORE, add_options, load, parse_domain, parse_time_zone
from statsvc.errors import SiteError
from statsvc.model import DEFAULT_TIME_ZONE, PageTotals, Site
from statsvc.ports import Registry
from statsvc.service import opened_registry
from statsvc.sites import refuse_shared_hosts

Command = Callable[[argparse.Namespace, Registry, int], Awaitable[None]]
LONGEST_SPAN_SECONDS = 24 * 3600
LARGEST_BASELINE = 10**15
T = TypeVar("T")


def add_to(commands: Any) -> None:
    """Add `site` and its subcommands to the program's."""
    site = commands.add_parser("site", help="add, list, show, set and remove sites, and set their baselines")
    subcommands = site.add_subparsers(metavar="COMMAND", required=True)

    def subcommand(name: str, run: Command, text: str, *, domain: bool = True) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = subcommands.add_parser(name, help=text, description=text)
        if domain:
            command.add_argument("domain", metavar="DOMAIN", type=_argument(parse_domain))
        add_options(command, (STORE,))
        command.set_defaults(run=lambda given: asyncio.run(_run(run, given)))
        return command

    add = subcommand("add", _add, "register a site; one that was removed comes back with its counts")
    _add_settings(add)
    add.add_argument("--exist-ok", action="store_true", help="succeed where it is registered already")
    subcommand("list", _list, "list the sites", domain=False)
    subcommand("show", _show, "show a site's settings, counts, baselines and tokens")
    _add_settings(subcommand("set", _set, "change a site's settings; those not given stay"))
    subcommand("remove", _remove, "no longer count for a site or show it; its counts are kept")

    baseline = subcommand("baseline", _baseline, "set what the site's old counter showed, or undo that")
    baseline.add_argument(
        "--visits", type=_argument(_count), metavar="N", help="visits to begin from: 1055568 or 1.055.568"
    )
    baseline.add_argument("--pageviews", type=_argument(_count), metavar="N", help="pageviews to begin from")
    baseline.add_argument("--undo", action="store_true", help="go back to the baseline before")
    baseline.add_argument(
        "--reason",
        type=_argument(_text),
        metavar="TEXT",
        help="why; kept in the baseline's history",
        required=True,
    )

    token = subcommand("token", _token, "make a token that may read a private site's totals, or revoke one")
    token.add_argument("--note", type=_argument(_text), metavar="TEXT", default="", help="who it is for")
    token.add_argument("--revoke", type=int, metavar="ID", help="revoke this token (`site show` lists them)")


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--time-zone",
        type=_argument(parse_time_zone),
        metavar="ZONE",
        help=f"whose days and hours count (default: {DEFAULT_TIME_ZONE})",
    )
    command.add_argument(
        "--alias",
        action="append",
        type=_argument(parse_domain),
        metavar="HOST",
        dest="aliases",
        help="another host whose pages are this site's; repeat for more; replaces those there were",
    )
    command.add_argument(
        "--no-alias",
        action="store_const",
        const=[],
        dest="aliases",
        help="no other host's pages are this site's",
    )
    command.add_argument(
        "--window",
        type=_argument(_span),
        metavar="SECONDS",
        dest="window_seconds",
        help="a visitor is current for this long after an event (default: 300)",
    )
    command.add_argument(
        "--visit-gap",
        type=_argument(_span),
        metavar="SECONDS",
        dest="visit_gap_seconds",
        help="a visit ends after this long without an event (default: 1800)",
    )
    command.add_argument(
        "--public",
        action=argparse.BooleanOptionalAction,
        help="whether anyone may read the totals (default: yes)",
    )


async def _run(command: Command, given: argparse.Namespace) -> None:
    store = load(vars(given), os.environ, (STORE,))["store"]
    async with opened_registry(store, create=command is _add) as registry:
        await command(given, registry, SystemClock().now().wall_ms)


async def _add(given: argparse.Namespace, registry: Registry, now_ms: int) -> None:
    sites = await registry.sites()
    if given.exist_ok and any(site.domain == given.domain for site in sites):
        print(f"{given.domain} is registered already")
        return
    settings = _given_settings(given)
    refuse_shared_hosts(Site(id=0, domain=given.domain, **settings), sites)
    site = await registry.add(Site(id=0, domain=given.domain, **settings), now_ms, again=True)
    if settings:  # one that comes back has the settings it had
        site = msgspec.structs.replace(site, **settings)
        refuse_shared_hosts(site, sites)
        await registry.change(site)
    _print_site(site)


async def _list(_: argparse.Namespace, registry: Registry, __: int) -> None:
    rows = [("DOMAIN", "TIME ZONE", "VISITS", "PAGEVIEWS", "")]
    for site in await registry.sites():
        counted = (await registry.totals(site.id))[False]
        base = await _baseline_of(registry, site)
        visits, pageviews = counted.visits + base.visits, counted.pageviews + base.pageviews
        rows.append(
            (site.domain, site.time_zone, f"{visits:,}", f"{pageviews:,}", "" if site.public else "private")
        )
    _print_table(rows)


async def _show(given: argparse.Namespace, registry: Registry, _: int) -> None:
    site = await _find(registry, given.domain)
    _print_site(site)
    counted = await registry.totals(site.id)
    base = await _baseline_of(registry, site)
    print()
    _print_table(
        [
            ("", "VISITS", "PAGEVIEWS"),
            ("people", f"{counted[False].visits:,}", f"{counted[False].pageviews:,}"),
            ("baseline", f"{base.visits:,}", f"{base.pageviews:,}"),
            (
                "total",
                f"{counted[False].visits + base.visits:,}",
                f"{counted[False].pageviews + base.pageviews:,}",
            ),
            ("bots", f"{counted[True].visits:,}", f"{counted[True].pageviews:,}"),
        ]
    )
    if baselines := await registry.baselines(site.id):
        print("\nbaselines, newest first")
        for entry in baselines:
            counts = f"visits {entry.visits:,}, pageviews {entry.pageviews:,}"
            made = f"{timestamp(entry.made_at_ms)}  {counts}: {entry.reason}"
            undone = (
                entry.undone_at_ms and f" (undone {timestamp(entry.undone_at_ms)}: {entry.undone_reason})"
            )
            print(f"  {made}{undone or ''}")
    if tokens := await registry.tokens(site.id):
        print("\ntokens")
        for token in tokens:
            revoked = token.revoked_at_ms and f" (revoked {timestamp(token.revoked_at_ms)})"
            print(f"  {token.id}  made {timestamp(token.made_at_ms)}  {token.note}{revoked or ''}")


async def _set(given: argparse.Namespace, registry: Registry, _: int) -> None:
    site = await _find(registry, given.domain)
    changed = msgspec.structs.replace(site, **_given_settings(given))
    refuse_shared_hosts(changed, await registry.sites())
    await registry.change(changed)
    _print_site(changed)


async def _remove(given: argparse.Namespace, registry: Registry, now_ms: int) -> None:
    await registry.remove(await _find(registry, given.domain), now_ms)
    print(
        f"{given.domain} is removed."
        f" Its counts are kept: `statsvc site add {given.domain}` goes on from them."
    )


async def _baseline(given: argparse.Namespace, registry: Registry, now_ms: int) -> None:
    site = await _find(registry, given.domain)
    if not given.reason.strip():
        raise SiteError("--reason: expected a text that says why, got an empty one")
    if given.undo:
        if given.visits is not None or given.pageviews is not None:
            raise SiteError("--undo goes without --visits and --pageviews")
        undone = await registry.undo_baseline(site.id, given.reason, now_ms)
        print(f"undone: visits {undone.visits:,}, pageviews {undone.pageviews:,} ({undone.reason})")
    elif given.visits is None and given.pageviews is None:
        raise SiteError("expected --visits, --pageviews or both, or --undo")
    else:
        before = await _baseline_of(registry, site)
        visits = before.visits if given.visits is None else given.visits
        pageviews = before.pageviews if given.pageviews is None else given.pageviews
        await _refuse_totals_below_zero(registry, site, PageTotals(visits, pageviews))
        await registry.set_baseline(site.id, visits, pageviews, given.reason, now_ms)
    base = await _baseline_of(registry, site)
    print(f"{site.domain} begins from visits {base.visits:,}, pageviews {base.pageviews:,}")


async def _token(given: argparse.Namespace, registry: Registry, now_ms: int) -> None:
    site = await _find(registry, given.domain)
    if given.revoke is not None:
        if given.revoke not in {token.id for token in await registry.tokens(site.id)}:
            raise SiteError(f"{site.domain} has no token {given.revoke}")
        await registry.revoke_token(given.revoke, now_ms)
        print(f"token {given.revoke} is revoked")
        return
    token = f"statsvc_{secrets.token_urlsafe(32)}"
    made = await registry.add_token(site.id, sha256(token.encode()).digest(), given.note, now_ms)
    print(f"token {made.id} for {site.domain}, shown this once:\n{token}")


async def _find(registry: Registry, domain: str) -> Site:
    sites = await registry.sites()
    for site in sites:
        if site.domain == domain:
            return site
    there = ", ".join(site.domain for site in sites) or "none"
    raise SiteError(f"no site {domain} is registered (registered: {there})")


async def _baseline_of(registry: Registry, site: Site) -> PageTotals:
    for entry in await registry.baselines(site.id):
        if entry.undone_at_ms is None:
            return PageTotals(entry.visits, entry.pageviews)
    return PageTotals(0, 0)


async def _refuse_totals_below_zero(registry: Registry, site: Site, base: PageTotals) -> None:
    counted = (await registry.totals(site.id))[False]
    for name, counted_so_far, begin in zip(PageTotals._fields, counted, base, strict=True):
        if counted_so_far + begin < 0:
            raise SiteError(
                f"--{name}: {begin:,} would make the total negative; {counted_so_far:,} were counted,"
                f" so {-counted_so_far:,} is the least"
            )


def _given_settings(given: argparse.Namespace) -> dict[str, Any]:
    names = ("time_zone", "aliases", "window_seconds", "visit_gap_seconds", "public")
    settings = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    if "aliases" in settings:
        settings["aliases"] = tuple(
            alias for alias in dict.fromkeys(settings["aliases"]) if alias != given.domain
        )
    return settings


def _print_site(site: Site) -> None:
    for name in ("domain", "time_zone", "aliases", "window_seconds", "visit_gap_seconds", "public"):
        value = getattr(site, name)
        shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
        print(f"{name.replace('_', ' '):18} {', '.join(value) or '-' if isinstance(value, tuple) else shown}")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width)
            if place == 0 or not cell.replace(",", "").lstrip("-").isdigit()
            else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """For argparse: its own sentence would hide ours."""

    def parse_argument(text: str) -> T:
        try:
            return parse(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(f"{exc}, got {text!r}") from None

    return parse_argument


def _span(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= LONGEST_SPAN_SECONDS:
        raise ValueError(f"expected seconds, from 1 to {LONGEST_SPAN_SECONDS:,}")
    return int(text)


def _count(text: str) -> int:
    # Grouped or not, but never a decimal: 1055568.00 from a spreadsheet is not a hundred million.
    if not re.fullmatch(r"-?(\d{1,16}|\d{1,3}([.,_ ]\d{3}){1,5})", text, re.ASCII):
        raise ValueError("expected a whole number, such as 1055568 or 1.055.568")
    count = int(re.sub(r"[.,_ ]", "", text))
    if abs(count) > LARGEST_BASELINE:
        raise ValueError(f"expected a number of at most {LARGEST_BASELINE:,}")
    return count


def _text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("expected a text of one line, without control characters")
    return text
