import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from statsvc.announcements import Announcer, SitesChanged
from statsvc.board import Board
from statsvc.calendar import neighbour
from statsvc.housekeeping import Housekeeping
from statsvc.keyring import Keyring
from statsvc.model import Site
from statsvc.presence.memory import MemoryPresence
from statsvc.sites import Sites
from statsvc.stores.sqlite import Database, SqliteRegistry
from tests.facts import NOON_MS
from tests.test_log import Listener

TODAY = "2026-11-23"


@pytest.fixture
async def care(store, registry, clock):
    await registry.add(Site(id=0, domain="hue.gov.vn", time_zone="Asia/Ho_Chi_Minh"), NOON_MS)
    sites, keyring, presence = Sites(registry), Keyring(store), MemoryPresence(store)
    await sites.load()
    board, listener = Board(store, presence), Listener()
    care = Housekeeping(store, sites, keyring, presence, board, clock, Announcer([listener]))
    care.sites, care.keyring, care.heard = sites, keyring, listener.heard  # type: ignore[attr-defined]
    return care


async def test_secrets_are_destroyed_after_two_days(care, clock, database: Database, tmp_path: Path):
    """Today's and yesterday's secrets stay; older ones are in no table, no memory and no byte of the files."""
    (site,) = care.sites
    days = [neighbour(TODAY, -ago) for ago in range(4)]
    secrets = [await care.keyring.fetch(site, day) for day in days]
    await care.tidy()
    assert [care.keyring.known(site, day) for day in days] == [*secrets[:2], None, None]
    files = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [secret in files for secret in secrets] == [True, True, False, False]


async def test_a_change_by_another_process_is_followed(care, tmp_path: Path):
    """Its sites are read again, once, and observers hear of it."""
    await care.follow_changes()
    other = await Database.open(tmp_path / "stats.db", serving=False)
    await SqliteRegistry(other).add(Site(id=0, domain="b.vn"), NOON_MS)
    await other.close()
    await care.follow_changes()
    await care.follow_changes()
    assert [site.domain for site in care.sites] == ["b.vn", "hue.gov.vn"]
    assert care.heard == [SitesChanged(2)]


async def test_a_stop_lets_what_was_begun_end(care, database: Database):
    """A stop in the middle of a clean-up leaves no transaction open and loses no work."""
    care.start()
    await care.stop()
    assert not database._writer.in_transaction


async def test_a_cancelled_transaction_is_undone(database: Database):
    """Cancelled at any of its steps, it leaves the connection free for the next."""
    for steps in range(12):

        async def work() -> None:
            async with database.transaction() as transaction:
                await transaction.run("UPDATE probe SET probes = probes + 1")

        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await database.write("UPDATE probe SET probes = 0")
        assert not database._writer.in_transaction
