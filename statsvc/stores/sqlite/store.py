"""Counts in SQLite. Implements `ports.Store`."""

import asyncio
import sqlite3
from collections.abc import Sequence

import orjson

from statsvc.errors import StoreError
from statsvc.model import History, PageTotals
from statsvc.ports import Batch, Space
from statsvc.stores.batch_json import as_json
from statsvc.stores.rows import history_of
from statsvc.stores.sqlite.database import Database
from statsvc.stores.sqlite.posting import Posting

FORGET_ROWS = 5000
"""Rows destroyed in one statement, so that a commit never waits long for a clean-up."""

FOLD_PAGES = 200
"""Pages folded in one transaction: each is looked up on every day that the site has."""
_POSTED = {"batches": " AND place <= (SELECT place FROM posted)", "receipts": ""}
_FOLDED = "site = ?1 AND path IN (SELECT value FROM json_each(?2)) AND path <> ?3"
# All days are named, so that the rows of these paths are looked up, and the table is not read.
_FOLDED_DAYS = f"{_FOLDED} AND day IN (SELECT DISTINCT day FROM days WHERE site = ?1)"
_ADDED = (
    "ON CONFLICT DO UPDATE SET visits = visits + excluded.visits, pageviews = pageviews + excluded.pageviews"
)
_FOLD = (
    "INSERT INTO pages (site, path, visits, pageviews)"
    f" SELECT ?1, ?3, sum(visits), sum(pageviews) FROM pages WHERE {_FOLDED}"
    f" {_ADDED}",
    f"DELETE FROM pages WHERE {_FOLDED}",
    "INSERT INTO page_days (site, day, path, visits, pageviews)"
    f" SELECT ?1, day, ?3, sum(visits), sum(pageviews) FROM page_days WHERE {_FOLDED_DAYS} GROUP BY day"
    f" {_ADDED}",
    f"DELETE FROM page_days WHERE {_FOLDED_DAYS}",
)

_HISTORIES = """
    WITH wanted AS MATERIALIZED (
      SELECT key AS place, json_extract(value, '$[0]') AS site, json_extract(value, '$[1]') AS first_day,
             json_extract(value, '$[2]') AS today FROM json_each(?)
    )
    SELECT totals.visits, totals.pageviews, baselines.visits, baselines.pageviews,
           peak.visitors, peak.at_ms, peak_today.visitors, peak_today.at_ms,
           (SELECT json_group_array(json_array(day, visits, pageviews, visitors)) FROM days
            WHERE site = wanted.site AND bot = 0 AND day >= wanted.first_day)
    FROM wanted
    LEFT JOIN totals ON totals.site = wanted.site AND totals.bot = 0
    LEFT JOIN baselines ON baselines.id = (
      SELECT max(id) FROM baselines WHERE site = wanted.site AND undone_at_ms IS NULL)
    LEFT JOIN peaks AS peak ON peak.site = wanted.site AND peak.day = (
      SELECT day FROM peaks WHERE site = wanted.site ORDER BY visitors DESC, at_ms LIMIT 1)
    LEFT JOIN peaks AS peak_today ON peak_today.site = wanted.site AND peak_today.day = wanted.today
    ORDER BY wanted.place
"""


class SqliteStore:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._posting = Posting(database)
        # A process that ended between destroying secrets and emptying the log may have left them in it.
        self._secrets_in_log = True

    async def commit(self, batch: Batch) -> None:
        place = await self._posting.room_for(batch.at_ms)
        tally = as_json(batch)
        try:
            await self._database.write(
                "INSERT INTO batches (place, id, at_ms, open_visits, tally) VALUES (?, ?, ?, ?, ?)",
                (place, batch.id, batch.at_ms, batch.open_visits, tally),
            )
        except sqlite3.IntegrityError as exc:
            if "batches.id" not in str(exc):  # of another process, which must not commit to this file
                self._posting.forget()
                raise StoreError(f"{self._database.path}: {exc}") from exc
        except BaseException:
            self._posting.forget()  # it may be there all the same
            raise
        else:
            self._posting.took(batch, place, len(tally))

    async def secret(self, site_id: int, day: str, new: bytes | None) -> bytes | None:
        if new is not None:
            await self._database.write(
                "INSERT INTO secrets (site, day, secret) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (site_id, day, new),
            )
        rows = await self._database.read(
            "SELECT secret FROM secrets WHERE site = ? AND day = ?", (site_id, day)
        )
        return rows[0][0] if rows else None

    async def secrets(self) -> dict[tuple[int, str], bytes]:
        rows = await self._database.read("SELECT site, day, secret FROM secrets")
        return {(site, day): secret for site, day, secret in rows}

    async def histories(self, wanted: Sequence[tuple[int, str, str]]) -> list[History]:
        async with self._posting.still():
            rows = await self._database.read(_HISTORIES, (orjson.dumps(wanted).decode(),))
            with self._database.decoding():
                return self._posting.waiting.to_histories([history_of(row) for row in rows], wanted)

    async def pages(self, keys: Sequence[tuple[int, str]]) -> dict[tuple[int, str], PageTotals]:
        async with self._posting.still():
            rows = await self._database.read(
                "SELECT pages.site, pages.path, visits, pageviews FROM json_each(?) AS wanted JOIN pages"
                " ON pages.site = json_extract(wanted.value, '$[0]')"
                " AND pages.path = json_extract(wanted.value, '$[1]')",
                (orjson.dumps(keys).decode(),),
            )
            pages = {(site, path): PageTotals(visits, pageviews) for site, path, visits, pageviews in rows}
            return self._posting.waiting.to_pages(pages, keys)

    async def open_visits(self) -> list[bytes]:
        rows = await self._database.read("SELECT open_visits FROM batches ORDER BY place")
        return [open_visits for (open_visits,) in rows]

    async def receipts(self) -> list[int]:
        await self._posting.post()
        rows = await self._database.read("SELECT ids FROM receipts ORDER BY place")
        return [receipt for (ids,) in rows for receipt in orjson.loads(ids)]

    async def visitors(self, site_id: int, day: str, bot: bool) -> list[int]:
        await self._posting.post_day(site_id, day)
        rows = await self._database.read(
            "SELECT visitors FROM newcomers WHERE site = ? AND day = ? AND bot = ?", (site_id, day, bot)
        )
        with self._database.decoding():
            return [visitor for (visitors,) in rows for visitor in orjson.loads(visitors)]

    async def paths(self, site_id: int, day: str) -> set[str]:
        await self._posting.post_day(site_id, day)
        rows = await self._database.read(
            "SELECT path FROM page_days WHERE site = ? AND day = ?", (site_id, day)
        )
        return {path for (path,) in rows}

    async def names(self, site_id: int, day: str) -> set[str]:
        await self._posting.post_day(site_id, day)
        rows = await self._database.read("SELECT name FROM names WHERE site = ? AND day = ?", (site_id, day))
        return {name for (name,) in rows}

    async def forget(self, batches_before_ms: int, receipts_before_ms: int, days_before: str) -> None:
        await self._posting.post()
        # They were appended in the order of time, so those to go are the first ones.
        for table, before_ms in (("batches", batches_before_ms), ("receipts", receipts_before_ms)):
            await self._forget_rows(
                f"DELETE FROM {table} WHERE place IN (SELECT place FROM (SELECT place, at_ms FROM {table}"
                f" ORDER BY place LIMIT ?) WHERE at_ms < ?{_POSTED[table]}) RETURNING place",
                (FORGET_ROWS, before_ms),
            )
        for (site_id,) in await self._database.read("SELECT id FROM sites"):
            await self._forget_rows(
                "DELETE FROM newcomers WHERE (site, day, bot, batch) IN (SELECT site, day, bot, batch"
                " FROM newcomers WHERE site = ? AND day < ? LIMIT ?) RETURNING site",
                (site_id, days_before, FORGET_ROWS),
            )
        async with self._database.transaction() as transaction:
            await transaction.run("PRAGMA secure_delete = ON")
            gone = await transaction.run("DELETE FROM secrets WHERE day < ? RETURNING site", (days_before,))
            await transaction.run("PRAGMA secure_delete = FAST")  # as `Database` has it
        self._secrets_in_log |= bool(gone)
        if self._secrets_in_log:
            # The write-ahead log still holds the secrets' pages as they were. A reader may be in the
            # way; then the next call tries again.
            self._secrets_in_log = not await self._database.empty_log()

    async def let_go_of_page_days(self, days_before: str) -> None:
        await self._posting.post()
        # Said before it is done: `statsvc check` must not miss what is on its way out.
        await self._database.write(
            "INSERT INTO let_go (what, days_before) VALUES ('page_days', ?)"
            " ON CONFLICT DO UPDATE SET days_before = excluded.days_before"
            " WHERE excluded.days_before > days_before",
            (days_before,),
        )
        for (site_id,) in await self._database.read("SELECT id FROM sites"):
            await self._forget_rows(
                "DELETE FROM page_days WHERE (site, day, path) IN (SELECT site, day, path"
                " FROM page_days WHERE site = ? AND day < ? LIMIT ?) RETURNING site",
                (site_id, days_before, FORGET_ROWS),
            )

    async def fold_pages(self, site_id: int, keep: int, seen_before: str, into: str) -> list[str]:
        await self._posting.post()
        ((pages,),) = await self._database.read("SELECT count(*) FROM pages WHERE site = ?", (site_id,))
        if pages <= keep:
            return []
        async with self._database.transaction() as transaction:
            # Asked inside the transaction: a page that is seen right now is none of them.
            rows = await transaction.run(
                "SELECT path FROM pages WHERE site = ? AND path <> ? AND path NOT IN"
                " (SELECT path FROM page_days WHERE site = ? AND day >= ?)"
                " ORDER BY pageviews, visits LIMIT ?",
                (site_id, into, site_id, seen_before, min(FOLD_PAGES, pages - keep)),
            )
            paths = [path for (path,) in rows]
            if paths:
                for statement in _FOLD:
                    await transaction.run(statement, (site_id, orjson.dumps(paths).decode(), into))
        return paths

    async def _forget_rows(self, sql: str, parameters: Sequence[int | str]) -> None:
        while await self._database.write(sql, parameters):
            pass

    async def probe(self) -> None:
        await self._database.probe()

    async def space(self) -> Space:
        return await asyncio.to_thread(self._database.space)

    async def version(self) -> int:
        # https://www.sqlite.org/pragma.html#pragma_data_version: moves when another connection commits.
        # Asked of the writer: what it commits itself does not count.
        ((version,),) = await self._database.write("PRAGMA data_version")
        return int(version)

    async def changed(self) -> set[int]:
        return set()  # one server per file
