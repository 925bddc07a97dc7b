"""`statsvc snippet`: the lines a web editor pastes. Works beside a running service, and without one."""

import argparse
import asyncio
import os
import sys
from base64 import b64encode
from hashlib import sha384
from html import escape
from importlib.resources import files
from typing import Any
from urllib.parse import urlencode, urlsplit

from statsvc import __version__
from statsvc.backends import opened_store
from statsvc.config import STORE, add_options, load, parse_domain
from statsvc.errors import SiteError
from statsvc.languages import FALLBACK, TAG, TITLE, language
from statsvc.model import Site

EXAMPLE_URL = "https://stats.example"
TEXT = """\
Once on every page; it counts the page and fills the box:

  {script}

Where the box should be:

  {box}

Beside it, for readers without scripts. In `u=`, let your CMS write the page's own address:

  {noscript}

Where no script may be added, this shows the box, and counts nothing:

  {iframe}

In place of the first line, where a policy wants the script's content to be fixed (SRI). It pins the script
of statsvc {version}: after an upgrade that changes it, browsers refuse it until this line is pasted anew:

  {pinned}
"""


def add_to(commands: Any) -> None:
    """Add `snippet` to the program's commands."""
    text = "print the lines to paste into a site's pages"
    command: argparse.ArgumentParser = commands.add_parser("snippet", help=text, description=text)
    command.add_argument("domain", metavar="DOMAIN", type=_domain)
    command.add_argument(
        "--url",
        type=_url,
        default=EXAMPLE_URL,
        help=f"the service's public address, as pages will call it (default: {EXAMPLE_URL})",
    )
    command.add_argument(
        "--lang", metavar="TAG", type=_tag, help="the box's language, such as vi (default: the page's)"
    )
    add_options(command, (STORE,))
    command.set_defaults(run=lambda given: asyncio.run(_snippet(given)))


async def _snippet(given: argparse.Namespace) -> None:
    store = load(vars(given), os.environ, (STORE,))["store"]
    async with opened_store(store) as opened:
        sites = await opened.registry.sites()
    site = next((site for site in sites if given.domain in {site.domain, *site.aliases}), None)
    if site is None:
        there = ", ".join(site.domain for site in sites) or "none"
        raise SiteError(f"no site {given.domain} is registered (registered: {there})")
    sys.stdout.write(lines(site, given.url, given.lang))


def lines(site: Site, url: str, lang: str | None) -> str:
    """What to paste for `site`, where the service is reached at `url`."""
    of_site = {"site": site.domain} | ({"lang": lang} if lang else {})
    counted = of_site | {"count": "1", "u": f"https://{site.domain}/"}
    title = escape(language(lang or FALLBACK).labels[TITLE])
    source, domain = escape(f"{url}/counter.js"), escape(site.domain)
    pin = f' integrity="{script_integrity()}" crossorigin="anonymous"'
    of_lang = f' lang="{escape(lang)}"' if lang else ""
    return TEXT.format(
        script=f'<script defer src="{source}" data-domain="{domain}"></script>',
        box=f"<visit-counter{of_lang}></visit-counter>",
        noscript=f'<noscript><img src="{_address(url, "badge.svg", counted)}" alt="{title}"></noscript>',
        iframe=f'<iframe src="{_address(url, "box", of_site)}" title="{title}" width="260" height="110"'
        ' frameborder="0"></iframe>',
        pinned=f'<script defer src="{source}"{pin} data-domain="{domain}"></script>',
        version=__version__,
    )


def script_integrity() -> str:
    """The hash by which a page can pin `counter.js`: https://www.w3.org/TR/SRI/."""
    script = (files("statsvc") / "assets" / "counter.js").read_bytes()
    return f"sha384-{b64encode(sha384(script).digest()).decode()}"


def _address(url: str, name: str, query: dict[str, str]) -> str:
    return escape(f"{url}/{name}?{urlencode(query)}")


def _domain(text: str) -> str:
    try:
        return parse_domain(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{exc}, got {text!r}") from None


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # raises where it is none
    except ValueError:
        host = None
    if (
        not host
        or parts.scheme not in {"http", "https"}
        or parts.query
        or parts.fragment
        or not text.isprintable()
    ):
        raise argparse.ArgumentTypeError(f"expected an address such as {EXAMPLE_URL}, got {text!r}")
    return text.rstrip("/")


def _tag(text: str) -> str:
    if not TAG.fullmatch(text):
        raise argparse.ArgumentTypeError(f"expected a language such as vi or en-GB, got {text!r}")
    return text
