"""Which User-Agents are bots.

The list is the `crawler-user-agents` package: a thousand and a half patterns kept up to date by
search engines' own reports, with crawlers, monitors, HTTP libraries and headless browsers in it.
"""

from functools import lru_cache

from crawleruseragents import is_crawler

# Search costs some hundred microseconds and User-Agents repeat; a header may be 8 KB long, so the
# memo is bounded in entries and, by the cut, in bytes.
LONGEST_USER_AGENT = 512


def is_bot(user_agent: str) -> bool:
    return _is_bot(user_agent[:LONGEST_USER_AGENT])


@lru_cache(maxsize=8192)
def _is_bot(user_agent: str) -> bool:
    return bool(is_crawler(user_agent))
