"""What tells a bot, or a browser that shows the page to nobody, from a reader.

The list of User-Agents is the `crawler-user-agents` package: a thousand and a half patterns kept up to
date by the people who meet them, with crawlers, monitors, HTTP libraries and headless browsers in it.
They are searched for with RE2 (https://github.com/google/re2), whose time grows only with the length of
the text, whatever a sender writes: 3 µs for a browser, where Python's own `re` takes 130.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

import re2
from crawleruseragents import CRAWLER_USER_AGENTS_DATA

from statsvc.model import DropReason

LONGEST_USER_AGENT = 512
"""Characters that are looked at, so that neither the search nor the memo grows with a header."""

_PURPOSE = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
"""https://wicg.github.io/nav-speculation/prefetch.html, and what browsers sent before it was written."""
_IN_ADVANCE = re.compile("prefetch|prerender|preview", re.IGNORECASE)

_options = re2.Options()
_options.max_mem = 256 << 20  # a bound, not a size: the automaton is built as far as it is needed
_known_bot = re2.compile("|".join(bot["pattern"] for bot in CRAWLER_USER_AGENTS_DATA), _options)


def sign_of(headers: Mapping[str, str]) -> DropReason | None:
    """What a request's headers, whose names are looked up in any case, say against a reader.

    A server may report for its readers with their User-Agent and little else, so what is missing is
    held only against who claims to be a browser's own request: `Sec-Fetch-Site`, which a script in a
    page can't set, comes with the reader's languages in every browser.
    """
    for name in _PURPOSE:
        if name in headers and _IN_ADVANCE.search(headers[name]):
            return DropReason.PREFETCH
    if not headers.get("User-Agent", "").strip():
        return DropReason.HEADERS
    if "Sec-Fetch-Site" in headers and not headers.get("Accept-Language"):
        return DropReason.HEADERS
    return None


def is_bot(user_agent: str) -> bool:
    return _is_bot(user_agent[:LONGEST_USER_AGENT])


@lru_cache(maxsize=8192)
def _is_bot(user_agent: str) -> bool:
    # aiohttp hands on bytes that are no UTF-8 as lone surrogates, which RE2 can't take.
    text = user_agent.encode(errors="replace").decode()
    return _known_bot.search(text) is not None
