"""Sites, baselines and tokens in PostgreSQL. Implements `ports.Registry`."""

from collections.abc import Mapping
from hmac import compare_digest

from statsvc.errors import NoSuchToken, SiteError, SiteTaken
from statsvc.model import Baseline, PageTotals, Scope, Site, Token
from statsvc.stores.postgres.database import PostgresDatabase
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


class PostgresRegistry:
    def __init__(self, database: PostgresDatabase) -> None:
        self._database = database

    async def sites(self) -> list[Site]:
        rows = await self._database.fetch(
            f"SELECT {SITE} FROM sites WHERE removed_at_ms IS NULL ORDER BY domain"
        )
        return [site_of(row) for row in rows]

    async def removed(self, domain: str) -> Site | None:
        rows = await self._database.fetch(
            f"SELECT {SITE} FROM sites WHERE domain = $1 AND removed_at_ms IS NOT NULL", domain
        )
        return site_of(rows[0]) if rows else None

    async def add(self, site: Site, at_ms: int, *, again: bool = False) -> Site:
        rows = await self._database.fetch(
            f"INSERT INTO sites AS had (domain, {SETTINGS}, added_at_ms)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
            f" ON CONFLICT (domain) DO UPDATE SET removed_at_ms = NULL, ({SETTINGS}) = ({GIVEN})"
            " WHERE had.removed_at_ms IS NOT NULL AND $9"
            f" RETURNING {SITE}",
            site.domain,
            *settings_of(site),
            at_ms,
            again,
        )
        if not rows:
            raise SiteTaken(f"{site.domain} is registered already, or was and has been removed")
        return site_of(rows[0])

    async def change(self, site: Site) -> None:
        await self._database.fetch(
            f"UPDATE sites SET ({SETTINGS}) = ($2, $3, $4, $5, $6, $7) WHERE id = $1",
            site.id,
            *settings_of(site),
        )

    async def remove(self, site: Site, at_ms: int) -> None:
        await self._database.fetch("UPDATE sites SET removed_at_ms = $2 WHERE id = $1", site.id, at_ms)

    async def baselines(self, site_id: int) -> list[Baseline]:
        rows = await self._database.fetch(
            f"SELECT {BASELINE} FROM baselines WHERE site = $1 ORDER BY id DESC", site_id
        )
        return [baseline_of(row) for row in rows]

    async def set_baseline(self, site_id: int, visits: int, pageviews: int, reason: str, at_ms: int) -> None:
        await self._database.fetch(
            "INSERT INTO baselines (site, visits, pageviews, reason, made_at_ms) VALUES ($1, $2, $3, $4, $5)",
            site_id,
            visits,
            pageviews,
            reason,
            at_ms,
        )

    async def undo_baseline(self, site_id: int, reason: str, at_ms: int) -> Baseline:
        rows = await self._database.fetch(
            "UPDATE baselines SET undone_at_ms = $3, undone_reason = $2 WHERE id ="
            " (SELECT id FROM baselines WHERE site = $1 AND undone_at_ms IS NULL"
            "  ORDER BY id DESC LIMIT 1 FOR UPDATE)"
            f" RETURNING {BASELINE}",
            site_id,
            reason,
            at_ms,
        )
        if not rows:
            raise SiteError("there is no baseline to undo")
        return baseline_of(rows[0])

    async def totals(self, site_id: int) -> Mapping[bool, PageTotals]:
        rows = await self._database.fetch(
            "SELECT bot, visits, pageviews FROM totals WHERE site = $1", site_id
        )
        counted = {bool(bot): PageTotals(visits, pageviews) for bot, visits, pageviews in rows}
        return {bot: counted.get(bot, PageTotals(0, 0)) for bot in (False, True)}

    async def add_token(
        self, site_id: int | None, scope: Scope, digest: bytes, note: str, at_ms: int
    ) -> Token:
        rows = await self._database.fetch(
            "INSERT INTO tokens (site, scope, digest, note, made_at_ms) VALUES ($1, $2, $3, $4, $5)"
            f" RETURNING {TOKEN}",
            site_id,
            scope,
            digest,
            note,
            at_ms,
        )
        return token_of(rows[0])

    async def tokens(self, site_id: int | None) -> list[Token]:
        rows = await self._database.fetch(
            f"SELECT {TOKEN} FROM tokens WHERE site IS NOT DISTINCT FROM $1 ORDER BY id", site_id
        )
        return [token_of(row) for row in rows]

    async def revoke_token(self, token_id: int, at_ms: int) -> None:
        rows = await self._database.fetch(
            "UPDATE tokens SET revoked_at_ms = $2 WHERE id = $1 AND revoked_at_ms IS NULL RETURNING id",
            token_id,
            at_ms,
        )
        if not rows:
            raise NoSuchToken(f"there is no token {token_id} that could be revoked")

    async def token(self, digest: bytes) -> Token | None:
        # An index is no comparison in constant time: it finds by a part, too short to guess the rest from.
        rows = await self._database.fetch(
            f"SELECT digest, {TOKEN} FROM tokens WHERE substr(digest, 1, 4) = $1 AND revoked_at_ms IS NULL",
            digest[:4],
        )
        return next((token_of(row[1:]) for row in rows if compare_digest(row[0], digest)), None)
