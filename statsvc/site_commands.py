"""`statsvc site …`: the sites, their settings, baselines and tokens. Works beside a running service."""

import argparse
import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from statsvc.administration import LARGEST_BASELINE, LONGEST_SPAN_SECONDS, SETTINGS, Administration
from statsvc.backends import opened_store
from statsvc.calendar import timestamp
from statsvc.clock import SystemClock
from statsvc.config import STORE, add_options, load, parse_domain, parse_time_zone
from statsvc.errors import SiteError
from statsvc.model import DEFAULT_TIME_ZONE, Scope, Site, Token

Command = Callable[[argparse.Namespace, Administration, int], Awaitable[None]]
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

    token = subcommand("token", _token, "make a token for a site, or revoke one (`site show` lists them)")
    _add_token_options(token, Scope.READ)
    token.add_argument("--revoke", type=int, metavar="ID", help="revoke this token")


def add_token_to(commands: Any) -> None:
    """Add `token` to the program's commands."""
    text = "make, list and revoke tokens for the whole service"
    token = commands.add_parser("token", help=text, description=text)
    subcommands = token.add_subparsers(metavar="COMMAND", required=True)

    def subcommand(name: str, run: Command, text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = subcommands.add_parser(name, help=text, description=text)
        add_options(command, (STORE,))
        command.set_defaults(domain=None, revoke=None, run=lambda given: asyncio.run(_run(run, given)))
        return command

    add = subcommand("add", _token, "make a token for the whole service; it is shown once")
    _add_token_options(add, Scope.ADMIN, note_required=True)
    subcommand("list", _list_tokens, "list the tokens for the whole service, revoked ones too")
    revoke = subcommand("revoke", _token, "revoke a token for the whole service")
    revoke.add_argument("revoke", type=int, metavar="ID", help="its number (`token list` has it)")


def _add_token_options(
    command: argparse.ArgumentParser, scope: Scope, *, note_required: bool = False
) -> None:
    command.add_argument(
        "--scope",
        choices=[str(scope) for scope in Scope],
        default=str(scope),
        help=f"read: totals of private sites; admin: /api/sites too (default: {scope})",
    )
    command.add_argument(
        "--note",
        type=_argument(_text),
        metavar="TEXT",
        default="",
        help="who it is for",
        required=note_required,
    )


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
        "--repeat",
        type=_argument(_span_or_none),
        metavar="SECONDS",
        dest="repeat_seconds",
        help="a visitor who loads a page again so soon adds no pageview (default: 0, each load is one)",
    )
    command.add_argument(
        "--public",
        action=argparse.BooleanOptionalAction,
        help="whether anyone may read the totals (default: yes)",
    )


async def _run(command: Command, given: argparse.Namespace) -> None:
    store = load(vars(given), os.environ, (STORE,))["store"]
    async with opened_store(store, create=command is _add) as opened:
        await command(given, Administration(opened.registry), SystemClock().now().wall_ms)


async def _add(given: argparse.Namespace, administration: Administration, now_ms: int) -> None:
    if given.exist_ok and any(site.domain == given.domain for site in await administration.sites()):
        print(f"{given.domain} is registered already")
        return
    _print_site(await administration.add(given.domain, _given_settings(given), now_ms))


async def _list(_: argparse.Namespace, administration: Administration, __: int) -> None:
    rows = [("DOMAIN", "TIME ZONE", "VISITS", "PAGEVIEWS", "")]
    for site in await administration.sites():
        total = (await administration.counts(site)).total
        private = "" if site.public else "private"
        rows.append((site.domain, site.time_zone, f"{total.visits:,}", f"{total.pageviews:,}", private))
    _print_table(rows)


async def _show(given: argparse.Namespace, administration: Administration, _: int) -> None:
    site = await administration.site(given.domain)
    _print_site(site)
    counts = await administration.counts(site)
    rows = (
        ("people", counts.people),
        ("baseline", counts.baseline),
        ("total", counts.total),
        ("bots", counts.bots),
    )
    print()
    _print_table(
        [
            ("", "VISITS", "PAGEVIEWS"),
            *((name, f"{count.visits:,}", f"{count.pageviews:,}") for name, count in rows),
        ]
    )
    if baselines := await administration.baselines(site):
        print("\nbaselines, newest first")
        for entry in baselines:
            counted = f"visits {entry.visits:,}, pageviews {entry.pageviews:,}"
            made = f"{timestamp(entry.made_at_ms)}  {counted}: {entry.reason}"
            undone = (
                entry.undone_at_ms and f" (undone {timestamp(entry.undone_at_ms)}: {entry.undone_reason})"
            )
            print(f"  {made}{undone or ''}")
    if tokens := await administration.tokens(site):
        print("\ntokens")
        _print_tokens(tokens)


async def _set(given: argparse.Namespace, administration: Administration, _: int) -> None:
    _print_site(await administration.change(given.domain, _given_settings(given)))


async def _remove(given: argparse.Namespace, administration: Administration, now_ms: int) -> None:
    await administration.remove(given.domain, now_ms)
    print(
        f"{given.domain} is removed."
        f" Its counts are kept: `statsvc site add {given.domain}` goes on from them."
    )


async def _baseline(given: argparse.Namespace, administration: Administration, now_ms: int) -> None:
    if not given.reason.strip():
        raise SiteError("--reason: expected a text that says why, got an empty one")
    if given.undo:
        if given.visits is not None or given.pageviews is not None:
            raise SiteError("--undo goes without --visits and --pageviews")
        undone = await administration.undo_baseline(given.domain, given.reason, now_ms)
        print(f"undone: visits {undone.visits:,}, pageviews {undone.pageviews:,} ({undone.reason})")
    elif given.visits is None and given.pageviews is None:
        raise SiteError("expected --visits, --pageviews or both, or --undo")
    else:
        await administration.set_baseline(given.domain, given.visits, given.pageviews, given.reason, now_ms)
    base = (await administration.counts(await administration.site(given.domain))).baseline
    print(f"{given.domain} begins from visits {base.visits:,}, pageviews {base.pageviews:,}")


async def _token(given: argparse.Namespace, administration: Administration, now_ms: int) -> None:
    site = await administration.site(given.domain) if given.domain else None
    if given.revoke is not None:
        await administration.revoke_token(site, given.revoke, now_ms)
        print(f"token {given.revoke} is revoked")
    else:
        made = await administration.make_token(site, Scope(given.scope), given.note, now_ms)
        whom = site.domain if site else "the whole service"
        print(f"token {made.record.id} ({made.record.scope}) for {whom}, shown this once:\n{made.text}")


async def _list_tokens(_: argparse.Namespace, administration: Administration, __: int) -> None:
    _print_tokens(await administration.tokens(None))


def _given_settings(given: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(given, name) for name in SETTINGS if getattr(given, name) is not None}


def _print_tokens(tokens: Sequence[Token]) -> None:
    for token in tokens:
        revoked = token.revoked_at_ms and f" (revoked {timestamp(token.revoked_at_ms)})"
        print(f"  {token.id}  {token.scope}  made {timestamp(token.made_at_ms)}  {token.note}{revoked or ''}")


def _print_site(site: Site) -> None:
    for name in ("domain", *SETTINGS):
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


def _span_or_none(text: str) -> int:
    return 0 if text == "0" else _span(text)


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
