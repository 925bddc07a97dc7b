"""Sites, baselines, tokens and histories as rows: the columns, in order, and the nouns made of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from statsvc.model import Baseline, DayCounts, History, PageTotals, Peak, Site, Token

SETTINGS = "time_zone, aliases, window_seconds, visit_gap_seconds, repeat_seconds, public"
GIVEN = ", ".join(f"excluded.{name}" for name in SETTINGS.split(", "))
SITE = f"id, domain, {SETTINGS}"
BASELINE = "id, visits, pageviews, reason, made_at_ms, undone_at_ms, undone_reason"
TOKEN = "id, site, scope, note, made_at_ms, revoked_at_ms"


def settings_of(site: Site) -> tuple[str, str, int, int, int, bool]:
    """In the order of SETTINGS."""
    aliases = orjson.dumps(site.aliases).decode()
    spans = (site.window_seconds, site.visit_gap_seconds, site.repeat_seconds)
    return site.time_zone, aliases, *spans, site.public


def site_of(row: Sequence[Any]) -> Site:
    columns = SITE.split(", ")
    return msgspec.convert(
        {**dict(zip(columns, row, strict=True)), "aliases": orjson.loads(row[3])}, Site, strict=False
    )


def baseline_of(row: Sequence[Any]) -> Baseline:
    return Baseline(**dict(zip(BASELINE.split(", "), row, strict=True)))


def token_of(row: Sequence[Any]) -> Token:
    names = ("id", "site_id", "scope", "note", "made_at_ms", "revoked_at_ms")
    return msgspec.convert(dict(zip(names, row, strict=True)), Token)


def history_of(row: Sequence[Any]) -> History:
    """Visits and pageviews in all and of the baseline, visitors and moment of the peak and of today's, and
    the days as JSON; None for what isn't there.
    """
    visits, pageviews, base_visits, base_pageviews, *peaks, days = row
    return History(
        total=PageTotals(visits or 0, pageviews or 0),
        baseline=PageTotals(base_visits or 0, base_pageviews or 0),
        days={day: DayCounts(*counts) for day, *counts in orjson.loads(days or "[]")},
        peak=None if peaks[0] is None else Peak(*peaks[:2]),
        peak_today=None if peaks[2] is None else Peak(*peaks[2:]),
    )
