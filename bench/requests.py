"""What is sent: a request is a head, the visitor's address, and a tail; the generators put them together."""

import json
from collections.abc import Sequence
from itertools import product
from urllib.parse import quote

import msgspec

MANY = 20_000
"""Visitors who come back."""
BROWSERS = 200
PAGES = 50
ID = "\0" * 12
"""Stands in a tail for twelve digits, others in each request: the event's id."""


class Requests(msgspec.Struct, frozen=True):
    """A request is its visitor's head, as everyone has one browser, the visitor's address and a random tail.

    Visitor `n` has an IPv4 address of its own, one far from that of `n + 1`. `visitors` says how many
    there are to pick from; 0 makes each request that of a new one.
    """

    heads: list[str]
    tails: list[str]
    visitors: int = 0
    names: tuple[str, ...] = ()
    """The names of the events they record."""

    def for_wrk(self, first_visitor: int, seed: int) -> str:
        """As `requests.lua` reads it: numbers, then each text behind its length in bytes."""
        numbers = (len(self.heads), len(self.tails), self.visitors, first_visitor, seed)
        texts = (f"{len(text.encode())}\n{text}" for text in (*self.heads, *self.tails))
        return " ".join(map(str, numbers)) + "\n" + "".join(texts)


def events(
    *,
    sites: Sequence[str],
    pages: int = PAGES,
    visitors: int = 0,
    engagement: float = 0.0,
    close: bool = False,
) -> Requests:
    """`POST /api/event`; `close` asks for a new connection each time."""
    names = ["engagement"] * round(engagement * 10) + ["pageview"] * round((1 - engagement) * 10)
    tails = []
    for site, page, name in product(sites, range(pages), names if engagement else ["pageview"]):
        event = {"n": name, "u": f"https://{site}{path(page)}", "d": site}
        body = json.dumps(event, separators=(",", ":"))
        if name == "pageview":  # as counter.js sends it
            body = f'{body[:-1]},"id":0.{ID}}}'
        tails.append(f"\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    heads = _heads("POST /api/event", "Content-Type: text/plain\r\n", close=close)
    return Requests(heads, tails, visitors, tuple(sorted(set(names))))


def pixels(site: str) -> Requests:
    """`GET /hit.gif`, every one of a new visitor."""
    calls = [f"GET /hit.gif?d={site}&u={quote(f'https://{site}{path(n)}', safe='')}" for n in range(PAGES)]
    return Requests([_head(call, n) for n, call in enumerate(calls)], ["\r\n\r\n"], names=("pageview",))


def reads(call: str, sites: Sequence[str]) -> Requests:
    """`GET` of what is shown of sites, by anyone: `call` has `{}` where the site's domain belongs."""
    return Requests([_head(f"GET {call.format(site)}", 0) for site in sites], ["\r\n\r\n"], visitors=MANY)


def path(page: int) -> str:
    return f"/tin-tuc/{page}"


def address(visitor: int) -> str:
    """Another one for each visitor: multiplying by an odd number modulo 2**32 never meets itself."""
    number = visitor * 2654435761 % 2**32
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def _heads(call: str, more: str, *, close: bool) -> list[str]:
    more += "Connection: close\r\n" if close else ""
    return [_head(call, browser, more) for browser in range(BROWSERS)]


def _head(call: str, browser: int, more: str = "") -> str:
    return (
        f"{call} HTTP/1.1\r\nHost: stats.example\r\n"
        "User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
        f" Chrome/{100 + browser % 50}.0.{browser}.0 Safari/537.36\r\n"
        "Accept: */*\r\nAccept-Language: vi,en;q=0.8\r\nSec-Fetch-Site: cross-site\r\n"
        f"{more}X-Forwarded-For: "
    )
