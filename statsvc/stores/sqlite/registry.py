"""Sites, baselines and tokens in SQLite. Implements `ports.Registry`."""

from collections.abc import Mapping
from hmac import compare_digest

import msgspec
import orjson

from statsvc.errors import NoSuchToken, SiteError, SiteTaken
from statsvc.model import Baseline, PageTotals, Scope, Site, Token
from statsvc.stores.sqlite.database import Database, Row

_SETTINGS = "time_zone, aliases, window_seconds, visit_gap_seconds, repeat_seconds, public"
_GIVEN = ", ".join(f"excluded.{name}" for name in _SETTINGS.split(", "))
_SITE = f"id, domain, {_SETTINGS}"
_BASELINE = "id, visits, pageviews, reason, made_at_ms, undone_at_ms, undone_reason"
_TOKEN = "id, site, scope, note, made_at_ms, revoked_at_ms"


class SqliteRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sites(self) -> list[Site]:
        rows = await self._database.read(
            f"SELECT {_SITE} FROM sites WHERE removed_at_ms IS NULL ORDER BY domain"
        )
        with self._database.decoding():
            return [_site(row) for row in rows]

    async def removed(self, domain: str) -> Site | None:
        rows = await self._database.read(
            f"SELECT {_SITE} FROM sites WHERE domain = ? AND removed_at_ms IS NOT NULL", (domain,)
        )
        with self._database.decoding():
            return _site(rows[0]) if rows else None

    async def add(self, site: Site, at_ms: int, *, again: bool = False) -> Site:
        rows = await self._database.write(
            f"INSERT INTO sites (domain, {_SETTINGS}, added_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT (domain) DO UPDATE SET removed_at_ms = NULL, ({_SETTINGS}) = ({_GIVEN})"
            " WHERE removed_at_ms IS NOT NULL AND ?"
            f" RETURNING {_SITE}",
            (site.domain, *_settings(site), at_ms, again),
        )
        if not rows:
            raise SiteTaken(f"{site.domain} is registered already, or was and has been removed")
        return _site(rows[0])

    async def change(self, site: Site) -> None:
        await self._database.write(
            f"UPDATE sites SET ({_SETTINGS}) = (?, ?, ?, ?, ?, ?) WHERE id = ?",
            (*_settings(site), site.id),
        )

    async def remove(self, site: Site, at_ms: int) -> None:
        await self._database.write("UPDATE sites SET removed_at_ms = ? WHERE id = ?", (at_ms, site.id))

    async def baselines(self, site_id: int) -> list[Baseline]:
        rows = await self._database.read(
            f"SELECT {_BASELINE} FROM baselines WHERE site = ? ORDER BY id DESC", (site_id,)
        )
        return [_baseline(row) for row in rows]

    async def set_baseline(self, site_id: int, visits: int, pageviews: int, reason: str, at_ms: int) -> None:
        await self._database.write(
            "INSERT INTO baselines (site, visits, pageviews, reason, made_at_ms) VALUES (?, ?, ?, ?, ?)",
            (site_id, visits, pageviews, reason, at_ms),
        )

    async def undo_baseline(self, site_id: int, reason: str, at_ms: int) -> Baseline:
        rows = await self._database.write(
            "UPDATE baselines SET undone_at_ms = ?, undone_reason = ? WHERE id ="
            " (SELECT max(id) FROM baselines WHERE site = ? AND undone_at_ms IS NULL)"
            f" RETURNING {_BASELINE}",
            (at_ms, reason, site_id),
        )
        if not rows:
            raise SiteError("there is no baseline to undo")
        return _baseline(rows[0])

    async def totals(self, site_id: int) -> Mapping[bool, PageTotals]:
        rows = await self._database.read(
            "SELECT bot, visits, pageviews FROM totals WHERE site = ?", (site_id,)
        )
        counted = {bool(bot): PageTotals(visits, pageviews) for bot, visits, pageviews in rows}
        return {bot: counted.get(bot, PageTotals(0, 0)) for bot in (False, True)}

    async def add_token(
        self, site_id: int | None, scope: Scope, digest: bytes, note: str, at_ms: int
    ) -> Token:
        rows = await self._database.write(
            "INSERT INTO tokens (site, scope, digest, note, made_at_ms) VALUES (?, ?, ?, ?, ?)"
            f" RETURNING {_TOKEN}",
            (site_id, scope, digest, note, at_ms),
        )
        return _token(rows[0])

    async def tokens(self, site_id: int | None) -> list[Token]:
        rows = await self._database.read(
            f"SELECT {_TOKEN} FROM tokens WHERE site IS ? ORDER BY id", (site_id,)
        )
        return [_token(row) for row in rows]

    async def revoke_token(self, token_id: int, at_ms: int) -> None:
        rows = await self._database.write(
            "UPDATE tokens SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL RETURNING id",
            (at_ms, token_id),
        )
        if not rows:
            raise NoSuchToken(f"there is no token {token_id} that could be revoked")

    async def token(self, digest: bytes) -> Token | None:
        # An index is no comparison in constant time: it finds by a part, too short to guess the rest from.
        rows = await self._database.read(
            f"SELECT digest, {_TOKEN} FROM tokens WHERE substr(digest, 1, 4) = ? AND revoked_at_ms IS NULL",
            (digest[:4],),
        )
        return next((_token(row[1:]) for row in rows if compare_digest(row[0], digest)), None)


def _settings(site: Site) -> tuple[str, str, int, int, int, bool]:
    """In the order of _SETTINGS."""
    aliases = orjson.dumps(site.aliases).decode()
    spans = (site.window_seconds, site.visit_gap_seconds, site.repeat_seconds)
    return site.time_zone, aliases, *spans, site.public


def _site(row: Row) -> Site:
    columns = _SITE.split(", ")
    return msgspec.convert(
        {**dict(zip(columns, row, strict=True)), "aliases": orjson.loads(row[3])}, Site, strict=False
    )


def _baseline(row: Row) -> Baseline:
    return Baseline(**dict(zip(_BASELINE.split(", "), row, strict=True)))


def _token(row: Row) -> Token:
    names = ("id", "site_id", "scope", "note", "made_at_ms", "revoked_at_ms")
    return msgspec.convert(dict(zip(names, row, strict=True)), Token)
