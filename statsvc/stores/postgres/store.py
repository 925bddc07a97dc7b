"""Counts in PostgreSQL. Implements `ports.Store`, for as many nodes as there are."""

import secrets as randomness
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from statsvc.errors import StoreError
from statsvc.model import History, PageTotals
from statsvc.ports import Batch, Space
from statsvc.stores.batch_json import as_json
from statsvc.stores.postgres.database import PostgresDatabase, Row
from statsvc.stores.postgres.replica import PostgresReplica
from statsvc.stores.rows import history_of

REMEMBERED_BATCHES = 100
"""Of each node the ids of so many of its last batches are known when the rest of them is forgotten."""
REMEMBERED_DAYS = 30
FORGET_ROWS = 5000
"""Rows destroyed in one statement, so that none takes long."""
REWRITES = 2
"""How often, from one clean-up to the next, the table of secrets gets a new file after some were destroyed:
the first has what a transaction that was under way may still see."""
FOLD_PAGES = 200
"""Pages folded in one transaction: commits on them wait for it."""

# A batch that is there may be on this server only: who waited for its standby was cancelled. Where one is
# brought again something is written, so that this commit waits for the standby, and so for all before it.
_COMMIT = (
    "WITH done AS (SELECT commit_batch($1, $2, $3, $4, $5, $6) AS is_new"
    " WHERE NOT EXISTS (SELECT FROM remembered WHERE id = $1))"
    " SELECT CASE WHEN (SELECT is_new FROM done) THEN NULL"
    " ELSE pg_logical_emit_message(true, 'statsvc', 'there already') END"
)
# Those that were not seen here are none of those that may be deleted then.
_REMEMBER = """
    WITH RECURSIVE nodes AS (
      (SELECT node FROM batches ORDER BY node LIMIT 1)
      UNION ALL
      SELECT (SELECT node FROM batches WHERE node > nodes.node ORDER BY node LIMIT 1)
      FROM nodes WHERE node IS NOT NULL
    ), kept AS (
      INSERT INTO remembered (id)
      SELECT id FROM nodes CROSS JOIN LATERAL
        (SELECT id, at_ms FROM batches WHERE node = nodes.node ORDER BY place DESC LIMIT $2) AS latest
      WHERE at_ms < $1
      ON CONFLICT DO NOTHING
    )
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text
"""
_FORGET = """
    WITH gone AS (
      DELETE FROM batches WHERE place IN (
        SELECT place FROM batches WHERE at_ms < $2 AND xid < $3::text::xid8
        AND place IN (SELECT place FROM batches ORDER BY place LIMIT $1) FOR UPDATE SKIP LOCKED
      ) RETURNING sites
    ), told AS (
      INSERT INTO changed_sites
        SELECT DISTINCT site, pg_current_xact_id() FROM gone, unnest(sites) AS site ORDER BY site
        ON CONFLICT (site) DO UPDATE SET xid = excluded.xid
    )
    SELECT FROM gone
"""
_HISTORIES = """
    SELECT wanted.site, totals.visits, totals.pageviews, baseline.visits, baseline.pageviews,
           peak.visitors, peak.at_ms, peak_today.visitors, peak_today.at_ms,
           (SELECT json_agg(json_build_array(day, visits, pageviews, visitors)) FROM days
            WHERE site = wanted.site AND bot = 0 AND day >= wanted.first_day)
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS wanted (site, first_day, today)
    LEFT JOIN totals ON totals.site = wanted.site AND totals.bot = 0
    LEFT JOIN LATERAL (SELECT visits, pageviews FROM baselines WHERE site = wanted.site
                       AND undone_at_ms IS NULL ORDER BY id DESC LIMIT 1) AS baseline ON true
    LEFT JOIN LATERAL (SELECT visitors, at_ms FROM peaks WHERE site = wanted.site
                       ORDER BY visitors DESC, at_ms LIMIT 1) AS peak ON true
    LEFT JOIN peaks AS peak_today ON peak_today.site = wanted.site AND peak_today.day = wanted.today
"""

# What became visible since the last look: transactions are numbered when they begin and are seen when they
# end, so not those after a number, but those that the last look's snapshot did not show. After a failover to
# a server that had not got the last commits their numbers are given again: another timeline, and all is new.
_LOOK = "SELECT pg_current_snapshot()::text, left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_CHANGED = """
    WITH unseen AS (
      SELECT unnest(sites) AS site FROM batches
      WHERE xid >= pg_snapshot_xmin($1::text::pg_snapshot) AND node <> $2
        AND NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
      UNION SELECT site FROM changed_sites WHERE NOT pg_visible_in_snapshot(xid, $1::text::pg_snapshot)
    )
    SELECT pg_current_snapshot()::text, left(pg_walfile_name(pg_current_wal_lsn()), 8),
           ARRAY(SELECT site FROM unseen), ARRAY(SELECT id FROM sites)
"""


class PostgresStore:
    def __init__(self, database: PostgresDatabase, replica: PostgresReplica | None = None) -> None:
        self._database = database
        self._replica = replica
        self._node = randomness.randbits(63)
        self._seen: tuple[str, str] | None = None
        """The snapshot of the last look for changes, and its timeline."""
        # A process that ended between destroying secrets and writing their table anew left them in it.
        self._rewrites = REWRITES

    async def commit(self, batch: Batch) -> None:
        tally = batch.tally
        sites = {key[0] for key in chain[tuple[Any, ...]](tally.days, tally.pages, tally.peaks)}
        await self._database.fetch(
            _COMMIT,
            batch.id,
            batch.at_ms,
            batch.open_visits,
            self._node,
            list(sites),
            as_json(batch),
        )

    async def changed(self) -> set[int]:
        if self._seen is None:
            ((snapshot, timeline),) = await self._database.fetch(_LOOK)
            self._seen = (snapshot, timeline)
            return set()
        before, timeline_before = self._seen
        ((snapshot, timeline, unseen, all_sites),) = await self._database.fetch(_CHANGED, before, self._node)
        self._seen = (snapshot, timeline)
        return set(unseen if timeline == timeline_before else all_sites)

    async def secret(self, site_id: int, day: str, new: bytes | None) -> bytes | None:
        if new is None:
            rows = await self._database.fetch(
                "SELECT secret FROM secrets WHERE site = $1 AND day = $2", site_id, day
            )
        else:
            # The update changes nothing; it is what makes the row of whoever came first be returned.
            rows = await self._database.fetch(
                "INSERT INTO secrets AS had VALUES ($1, $2, $3)"
                " ON CONFLICT (site, day) DO UPDATE SET secret = had.secret RETURNING secret",
                site_id,
                day,
                new,
            )
        return rows[0][0] if rows else None

    async def secrets(self) -> dict[tuple[int, str], bytes]:
        rows = await self._database.fetch("SELECT site, day, secret FROM secrets")
        return {(site, day): secret for site, day, secret in rows}

    async def histories(self, wanted: Sequence[tuple[int, str, str]]) -> list[History]:
        columns = [list(column) for column in zip(*wanted, strict=True)] or [[], [], []]
        by_site = {site: history_of(row) for site, *row in await self._read_totals(_HISTORIES, *columns)}
        return [by_site[site_id] for site_id, _, _ in wanted]

    async def pages(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        rows = await self._read_totals(
            "SELECT site, path, visits, pageviews FROM pages"
            " JOIN unnest($1::bigint[], $2::text[]) AS wanted (site, path) USING (site, path)",
            [site for site, _ in keys],
            [path for _, path in keys],
        )
        return {(site, path): PageTotals(visits, pageviews) for site, path, visits, pageviews in rows}

    async def _read_totals(self, sql: str, *parameters: Any) -> Sequence[Row]:
        """From the replica where it has all that was committed until now; else from the primary.

        What is read is added to by this node's own commits, and is corrected when others commit: a replica
        that is late by one of either would leave the numbers wrong until the next change.
        """
        if self._replica is not None:
            rows = await self._replica.fetch_as_of(await self._database.position(), sql, *parameters)
            if rows is not None:
                return rows
        return await self._database.fetch(sql, *parameters)

    async def open_visits(self) -> list[bytes]:
        rows = await self._database.fetch("SELECT open_visits FROM batches ORDER BY place")
        return [open_visits for (open_visits,) in rows]

    async def receipts(self) -> list[int]:
        rows = await self._database.fetch("SELECT ids FROM receipts ORDER BY place")
        return [receipt for (ids,) in rows for receipt in ids]

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
        rows = await self._database.fetch(
            "SELECT visitors FROM newcomers WHERE site = $1 AND day = $2 AND bot = $3", site_id, day, int(bot)
        )
        return [visitor for (visitors,) in rows for visitor in visitors]

    async def paths(self, site_id: int, day: str) -> set[str]:
        rows = await self._database.fetch(
            "SELECT path FROM page_days WHERE site = $1 AND day = $2", site_id, day
        )
        return {path for (path,) in rows}

    async def names(self, site_id: int, day: str) -> set[str]:
        rows = await self._database.fetch("SELECT name FROM names WHERE site = $1 AND day = $2", site_id, day)
        return {name for (name,) in rows}

    async def forget(self, batches_before_ms: int, receipts_before_ms: int, days_before: str) -> None:
        # Every node does this: what another has taken in hand is passed over.
        ((seen_before,),) = await self._database.fetch(_REMEMBER, batches_before_ms, REMEMBERED_BATCHES)
        await self._database.fetch(
            "DELETE FROM remembered WHERE since < now() - make_interval(days => $1)", REMEMBERED_DAYS
        )
        # They were appended in the order of time, but for those that waited in an outbox.
        await self._delete(_FORGET, batches_before_ms, seen_before)
        await self._delete(
            "DELETE FROM receipts WHERE place IN (SELECT place FROM receipts WHERE at_ms < $2 AND place IN"
            " (SELECT place FROM receipts ORDER BY place LIMIT $1) FOR UPDATE SKIP LOCKED) RETURNING 1",
            receipts_before_ms,
        )
        await self._delete(
            "DELETE FROM newcomers WHERE (day, site, bot, batch) IN (SELECT day, site, bot, batch"
            " FROM newcomers WHERE day < $2 LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1",
            days_before,
        )
        gone = await self._database.fetch("DELETE FROM secrets WHERE day < $1 RETURNING 1", days_before)
        if gone:
            self._rewrites = REWRITES
        if self._rewrites:
            # A deleted row stays in its table's file. A dump may be in the way of a new file; then the next
            # call tries again, and who asks for a secret meanwhile doesn't wait behind this.
            with suppress(StoreError):
                await self._database.rewrite("secrets")
                self._rewrites -= 1

    async def let_go_of_page_days(self, days_before: str) -> None:
        # Said before it is done: `statsvc check` must not miss what is on its way out.
        await self._database.fetch(
            "INSERT INTO let_go AS had VALUES ('page_days', $1)"
            " ON CONFLICT (what) DO UPDATE SET days_before = excluded.days_before"
            " WHERE excluded.days_before > had.days_before",
            days_before,
        )
        for (site_id,) in await self._database.fetch("SELECT id FROM sites"):
            await self._delete(
                "DELETE FROM page_days WHERE (site, day, path) IN (SELECT site, day, path FROM page_days"
                " WHERE site = $3 AND day < $2 LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING 1",
                days_before,
                site_id,
            )

    async def fold_pages(self, site_id: int, keep: int, seen_before: str, into: str) -> list[str]:
        rows = await self._database.fetch(
            "SELECT fold_pages($1, $2, $3, $4, $5)", site_id, keep, seen_before, into, FOLD_PAGES
        )
        return [path for (path,) in rows]

    async def _delete(self, sql: str, *parameters: int | str) -> None:
        while await self._database.fetch(sql, FORGET_ROWS, *parameters):
            pass

    async def probe(self) -> None:
        await self._database.fetch("UPDATE probe SET probes = probes + 1")

    async def space(self) -> Space:
        return await self._database.space()

    async def version(self) -> int:
        ((number,),) = await self._database.fetch("SELECT number FROM changes")
        return int(number)
