"""What must agree in every store, as SQL that each engine understands: numbers counted in several tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """Something that is not as it must be."""

    what: str
    """With the site, day, page or audience."""
    expected: str
    found: str


class Agreement(NamedTuple):
    """Two queries say the same of the same keys; or, with `at_most`, `found` is no more than `expected`.

    Each query gives the keys and a number; numbers of the same keys are added up.
    """

    what: str
    keys: str
    expected_is: str
    expected: str
    found: str
    at_most: bool = False

    @property
    def sql(self) -> str:
        comparison = "<" if self.at_most else "<>"
        return (
            f"SELECT sum(expected), sum(found), {self.keys} FROM"
            f" (SELECT {self.keys}, number AS expected, 0 AS found FROM ({self.expected}) AS one"
            f"  UNION ALL SELECT {self.keys}, 0, number FROM ({self.found}) AS other) AS counted"
            f" GROUP BY {self.keys} HAVING sum(expected) {comparison} sum(found)"
        )


_KEPT = "(SELECT coalesce(max(days_before), '') FROM let_go WHERE what = 'page_days')"
_ALL_KEPT = "NOT EXISTS (SELECT * FROM let_go WHERE what = 'page_days')"


def _of(table: str, number: str, keys: str, where: str = "true") -> str:
    return f"SELECT {keys}, {number} AS number FROM {table} WHERE {where}"


def agreements(visitors_kept: str) -> Sequence[Agreement]:
    """All of them; `visitors_kept` is how many ids a row of newcomers has, as the engine writes it."""
    return (
        *(
            Agreement(
                f"{number} of all time",
                "site, bot",
                f"the sum of its {table}",
                _of(table, number, "site, bot"),
                _of("totals", number, "site, bot"),
            )
            for table in ("hours", "days")
            for number in ("visits", "pageviews")
        ),
        Agreement(
            "events of all time by name",
            "site, bot",
            "the sum of its hours",
            _of("hours", "events", "site, bot"),
            _of("names", "events", "site, bot"),
        ),
        Agreement(
            "pageviews of a day",
            "site, bot, day",
            "its events named pageview",
            _of("names", "events", "site, bot, day", "name = 'pageview'"),
            _of("days", "pageviews", "site, bot, day"),
        ),
        *(
            Agreement(
                f"{number} of a day",
                "site, bot, day",
                "at most its events",
                _of("names", "events", "site, bot, day"),
                _of("days", number, "site, bot, day"),
                at_most=True,
            )
            for number in ("visits", "visitors")
        ),
        *(
            Agreement(
                f"{number} of an hour",
                "site, bot, hour",
                "at most its events",
                _of("hours", "events", "site, bot, hour"),
                _of("hours", number, "site, bot, hour"),
                at_most=True,
            )
            for number in ("visits", "pageviews")
        ),
        Agreement(
            "visitors' ids kept for a day",
            "site, bot, day",
            "at most its visitors",
            _of("days", "visitors", "site, bot, day"),
            _of("newcomers", visitors_kept, "site, bot, day"),
            at_most=True,
        ),
        Agreement(
            "pageviews of all pages",
            "site",
            "the site's",
            _of("totals", "pageviews", "site", "bot = 0"),
            _of("pages", "pageviews", "site"),
        ),
        Agreement(
            "pageviews of all pages on a day",
            "site, day",
            "the site's",
            _of("days", "pageviews", "site, day", f"bot = 0 AND day >= {_KEPT}"),
            _of("page_days", "pageviews", "site, day", f"day >= {_KEPT}"),
        ),
        Agreement(
            "visits on a day",
            "site, day",
            "at most its pages' visits",
            _of("page_days", "visits", "site, day", f"day >= {_KEPT}"),
            _of("days", "visits", "site, day", f"bot = 0 AND day >= {_KEPT}"),
            at_most=True,
        ),
        # Where days of pages were let go of, what is left of them is a part of a page's all-time number.
        *(
            Agreement(
                f"{number} of a page on its days",
                "site, path",
                "the page's of all time" if at_most else "as many as the page's of all time",
                _of("pages", number, "site, path", f"{condition}{_ALL_KEPT}"),
                _of("page_days", number, "site, path", f"{condition}{_ALL_KEPT}"),
                at_most,
            )
            for number in ("visits", "pageviews")
            for at_most, condition in ((False, ""), (True, "NOT "))
        ),
        *(
            Agreement(
                f"{table} of sites that never were",
                "site",
                "none",
                "SELECT 0 AS site, 0 AS number",
                _of(table, "1", "site", "site NOT IN (SELECT id FROM sites)"),
            )
            for table in ("totals", "days", "hours", "names", "pages", "page_days", "peaks")
        ),
    )


def difference(agreement: Agreement, row: Sequence[Any], domains: Mapping[int, str]) -> Difference:
    """What a row of an agreement's query says, to people."""
    expected, found, *keys = row
    named = dict(zip(agreement.keys.split(", "), keys, strict=True))
    return Difference(
        _told_of(agreement.what, named, domains),
        f"{expected:,} ({agreement.expected_is})",
        f"{found:,}",
    )


def _told_of(what: str, keys: dict[str, str | int], domains: Mapping[int, str]) -> str:
    site = keys.pop("site")
    parts = [domains.get(int(site), f"site {site}")]
    if "bot" in keys:
        parts.append("bots" if keys.pop("bot") else "people")
    return f"{', '.join([*parts, *map(str, keys.values())])}: {what}"
