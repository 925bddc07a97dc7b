"""Sites, baselines and tokens as rows: the columns, in order, and the nouns made of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from statsvc.model import Baseline, Site, Token

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
