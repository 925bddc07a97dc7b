"""A year of counts: what retention lets go of, and what a backup brings back, by the real commands."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.faults import SITE, FakedClock, register
from tests.load import Ledger, loading, until
from tests.process import Service, command

DAY_SECONDS = 86_400
SOUND = "is sound, and its numbers add up"


async def read_pages(store: Path, clock: FakedClock, days_ago: int, people: int) -> None:
    """Serve on that day: each of them reads the front page and one that was new then."""
    clock.step_to(-days_ago * DAY_SECONDS)
    with Service(store, env=clock.environment) as service:
        async with loading(service.public, Ledger()) as load:
            for visitor in range(people):
                await load.send(SITE, visitor, "/")
                await load.send(SITE, visitor, f"/{days_ago}")
        assert service.stop() == 0


def page_days(store: Path) -> int:
    """On how many days pages are known to have been read."""
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
        ((days,),) = database.execute("SELECT count(DISTINCT day) FROM page_days")
        return int(days)


async def shown(store: Path, *options: str, days: int) -> dict[str, int]:
    """What a service that was started anew shows once pages are known of so many days; `check` agrees."""
    with Service(store, *options) as service:
        await until(lambda: page_days(store) == days)
        async with loading(service.public, Ledger()) as load:
            totals = await load.totals(SITE, ("/", "/400", "/40", "/0"))
        assert service.stop() == 0
    assert SOUND in command(store, "check")
    site = {
        f"{what} of {when}": totals[what][when] for what in ("visits", "pageviews") for when in totals[what]
    }
    return site | {path: page["pageviews"] for path, page in totals["pages"].items()}


async def test_retention_and_a_restore_change_no_number_that_is_shown(tmp_path: Path) -> None:
    """Old days of pages go, and stay gone in a restored backup; all totals are what they were."""
    store, copy = register(tmp_path / "stats.db"), tmp_path / "copy.db"
    clock = FakedClock(tmp_path)
    for days_ago, people in ((400, 3), (40, 4), (0, 5)):
        await read_pages(store, clock, days_ago, people)
    before = await shown(store, "--keep-page-days", "90", days=2)
    assert (before["pageviews of total"], before["visits of total"]) == (24, 12)
    assert (before["/"], before["/400"], before["/40"], before["/0"]) == (12, 3, 4, 5)
    command(store, "backup", str(copy))
    assert await shown(store, "--keep-page-days", "30", days=1) == before

    for path in tmp_path.glob("stats.db*"):
        path.rename(path.with_name(f"aside-{path.name}"))
    shutil.copy(copy, store)
    assert await shown(store, days=2) == before
