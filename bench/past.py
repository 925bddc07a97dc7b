"""A store with years of history, written by SQL: what the service would have counted, without counting it."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from statsvc.stores.sqlite import Database

# Every day a site has events in two hours and on two of its pages: PAGE more pageviews than LATER's two.
DAYS = """
INSERT INTO days SELECT site, day, 0, 2, 5 + (site + number) % 5, 2 FROM every_day ORDER BY site, day;
INSERT INTO hours
  SELECT site, start + 8 * 3600, 0, 1, 3 + (site + number) % 5, 3 + (site + number) % 5 FROM every_day
  UNION ALL SELECT site, start + 14 * 3600, 0, 1, 2, 2 FROM every_day ORDER BY 1, 2;
INSERT INTO names
  SELECT site, day, 0, 'pageview', 5 + (site + number) % 5 FROM every_day ORDER BY site, day;
INSERT INTO page_days
  SELECT site, day, '/tin-tuc/' || ((number * 7 + site) % pages), 2, 3 + (site + number) % 5 FROM every_day
  UNION ALL SELECT site, day, '/tin-tuc/' || ((number * 7 + site + 1) % pages), 1, 2 FROM every_day
  ORDER BY 1, 2;
INSERT INTO peaks SELECT site, day, 1 + (site + number) % 2, (start + 8 * 3600) * 1000 FROM every_day
  ORDER BY site, day;
INSERT INTO totals SELECT site, 0, sum(visits), sum(pageviews) FROM days GROUP BY site;
INSERT INTO pages SELECT site, path, sum(visits), sum(pageviews) FROM page_days GROUP BY site, path;
"""


def domains(sites: int) -> list[str]:
    return [f"xa-{number}.example" for number in range(1, sites + 1)]


def write(store: Path, *, sites: int, days: int, pages: int) -> None:
    """A new store: so many sites (UTC), each with `days` of history until yesterday on `pages` pages."""
    asyncio.run(_make(store))
    today = datetime.now(UTC).date()
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = OFF")  # half a store is thrown away
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO sites (id, domain, time_zone, aliases, window_seconds, visit_gap_seconds, public,"
            " added_at_ms) VALUES (?, ?, 'UTC', '[]', 300, 1800, 1, 0)",
            enumerate(domains(sites), start=1),
        )
        database.execute(
            "CREATE TEMP TABLE calendar (number INTEGER PRIMARY KEY, day TEXT, start INTEGER, pages INTEGER)"
        )
        database.executemany(
            "INSERT INTO calendar VALUES (?, ?, ?, ?)",
            ((number, *_day(today - timedelta(days=days - number)), pages) for number in range(days)),
        )
        database.execute(
            "CREATE TEMP VIEW every_day AS SELECT sites.id AS site, number, day, start, pages"
            " FROM main.sites CROSS JOIN calendar"
        )
        for statement in DAYS.split(";"):
            database.execute(statement)
        database.execute("COMMIT")


async def _make(store: Path) -> None:
    await (await Database.open(store, serving=False)).close()


def _day(day: date) -> tuple[str, int]:
    return day.isoformat(), int(datetime.combine(day, time(), UTC).timestamp())
