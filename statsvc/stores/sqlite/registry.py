"""Sites, baselines and tokens in SQLite. Implements `ports.Registry`."""

from collections.abc import Mapping
from hmac import compare_digest

from statsvc.errors import NoSuchToken, SiteError, SiteTaken
from statsvc.model import Baseline, PageTotals, Scope, Site, Token
from statsvc.stores.rows import (
    BASELINE,
    GIVEN,
    SETTINGS,
    SITE,
    TOKEN,
    baseline_of,
    settings_of,
    site_of,
    token_of,
)
from statsvc.stores.sqlite.database import Database


class SqliteRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sites(self) -> list[Site]:
        rows = await self._database.read(
            f"SELECT {SITE} FROM sites WHERE removed_at_ms IS NULL ORDER BY domain"
        )
        with self._database.decoding():
            return [site_of(row) for row in rows]

    async def removed(self, domain: str) -> Site | None:
        rows = await self._database.read(
            f"SELECT {SITE} FROM sites WHERE domain = ? AND removed_at_ms IS NOT NULL", (domain,)
        )
        with self._database.decoding():
            return site_of(rows[0]) if rows else None

    async def add(self, site: Site, at_ms: int, *, again: bool = False) -> Site:
        rows = await self._database.write(
            f"INSERT INTO sites (domain, {SETTINGS}, added_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            f" ON CONFLICT (domain) DO UPDATE SET removed_at_ms = NULL, ({SETTINGS}) = ({GIVEN})"
            " WHERE removed_at_ms IS NOT NULL AND ?"
            f" RETURNING {SITE}",
            (site.domain, *settings_of(site), at_ms, again),
        )
        if not rows:
            raise SiteTaken(f"{site.domain} is registered already, or was and has been removed")
        return site_of(rows[0])

    async def change(self, site: Site) -> None:
        await self._database.write(
            f"UPDATE sites SET ({SETTINGS}) = (?, ?, ?, ?, ?, ?) WHERE id = ?",
            (*settings_of(site), site.id),
        )

    async def remove(self, site: Site, at_ms: int) -> None:
        await self._database.write("UPDATE sites SET removed_at_ms = ? WHERE id = ?", (at_ms, site.id))

    async def baselines(self, site_id: int) -> list[Baseline]:
        rows = await self._database.read(
            f"SELECT {BASELINE} FROM baselines WHERE site = ? ORDER BY id DESC", (site_id,)
        )
        return [baseline_of(row) for row in rows]

    async def set_baseline(self, site_id: int, visits: int, pageviews: int, reason: str, at_ms: int) -> None:
        await self._database.write(
            "INSERT INTO baselines (site, visits, pageviews, reason, made_at_ms) VALUES (?, ?, ?, ?, ?)",
            (site_id, visits, pageviews, reason, at_ms),
        )

    async def undo_baseline(self, site_id: int, reason: str, at_ms: int) -> Baseline:
        rows = await self._database.write(
            "UPDATE baselines SET undone_at_ms = ?, undone_reason = ? WHERE id ="
            " (SELECT max(id) FROM baselines WHERE site = ? AND undone_at_ms IS NULL)"
            f" RETURNING {BASELINE}",
            (at_ms, reason, site_id),
        )
        if not rows:
            raise SiteError("there is no baseline to undo")
        return baseline_of(rows[0])

    async def totals(self, site_id: int) -> Mapping[bool, PageTotals]:
        rows = await self._database.read(
            "SELECT bot, sum(visits), sum(pageviews) FROM"
            " (SELECT * FROM totals UNION ALL SELECT * FROM totals_to_post) WHERE site = ? GROUP BY bot",
            (site_id,),
        )
        counted = {bool(bot): PageTotals(visits, pageviews) for bot, visits, pageviews in rows}
        return {bot: counted.get(bot, PageTotals(0, 0)) for bot in (False, True)}

    async def add_token(
        self, site_id: int | None, scope: Scope, digest: bytes, note: str, at_ms: int
    ) -> Token:
        rows = await self._database.write(
            "INSERT INTO tokens (site, scope, digest, note, made_at_ms) VALUES (?, ?, ?, ?, ?)"
            f" RETURNING {TOKEN}",
            (site_id, scope, digest, note, at_ms),
        )
        return token_of(rows[0])

    async def tokens(self, site_id: int | None) -> list[Token]:
        rows = await self._database.read(
            f"SELECT {TOKEN} FROM tokens WHERE site IS ? ORDER BY id", (site_id,)
        )
        return [token_of(row) for row in rows]

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
            f"SELECT digest, {TOKEN} FROM tokens WHERE substr(digest, 1, 4) = ? AND revoked_at_ms IS NULL",
            (digest[:4],),
        )
        return next((token_of(row[1:]) for row in rows if compare_digest(row[0], digest)), None)
