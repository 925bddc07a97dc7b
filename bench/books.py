"""The store's side of a load: what it counted, read past all of the service's code."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from bench.load import BenchError

COUNTED = {
    "pageviews": (
        "SELECT coalesce(sum(pageviews), 0) FROM"
        " (SELECT * FROM totals UNION ALL SELECT * FROM totals_to_post) WHERE bot = 0"
    ),
    "events": (
        "SELECT coalesce(sum(events), 0) FROM (SELECT bot, events FROM names UNION ALL"
        " SELECT json_extract(value, '$[2]'), json_extract(value, '$[4]')"
        " FROM postings, json_each(tally, '$.names')) WHERE bot = 0"
    ),
}


class Books:
    """Acknowledged <= counted <= sent, over all loads since the books were opened."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._least = {what: self._counted(what) for what in COUNTED}
        self._most = dict(self._least)

    def check(self, acknowledged: int, under_way: int, *, all_pageviews: bool) -> None:
        """Raises BenchError where an event that was acknowledged isn't in the store, or is there twice.

        Those `under_way` when a load was stopped may be there.
        """
        for what in COUNTED:
            self._most[what] += acknowledged + under_way
            if all_pageviews or what == "events":
                self._least[what] += acknowledged
            least, most, counted = self._least[what], self._most[what], self._counted(what)
            if not least <= counted <= most:
                raise BenchError(
                    f"the store has {counted:,} {what}, of {least:,} acknowledged and {most:,} sent at most"
                )

    def _counted(self, what: str) -> int:
        with closing(sqlite3.connect(f"file:{self._store}?mode=ro", uri=True)) as database:
            count: int = database.execute(COUNTED[what]).fetchone()[0]
            return count


def bare_commit_ms(folder: Path, seconds: float) -> float:
    """The median time of one row's commit on this disk, with nothing else to do: WAL, synchronous=FULL."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, number INTEGER)")
        times = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            database.execute("INSERT INTO rows (number) VALUES (1)")
            times.append(time.perf_counter() - began)
    return sorted(times)[len(times) // 2] * 1000
