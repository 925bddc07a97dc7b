import asyncio
import secrets
import time
from contextlib import suppress
from pathlib import Path

import pytest

from statsvc import cardinality
from statsvc.announcements import Announcer, Folded, SitesChanged
from statsvc.board import Board
from statsvc.calendar import neighbour
from statsvc.housekeeping import Housekeeping
from statsvc.keyring import Keyring
from statsvc.model import PageTotals, Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.sites import Sites
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from statsvc.stores.sqlite.audit import audit
from statsvc.stores.sqlite.snapshot import snapshot
from statsvc.stores.sqlite.told import BUSY_TIMEOUT_SECONDS
from statsvc.tally import Tally, fold
from tests.facts import NOON_MS, hit
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


async def test_secrets_are_destroyed_also_when_the_last_site_is_gone(care, clock, registry, store):
    """Nothing outlives its two days for want of a site."""
    (site,) = care.sites
    await care.keyring.fetch(site, TODAY)
    await registry.remove(site, NOON_MS)
    await care.sites.load()
    clock.advance(5 * 86_400)
    await care.tidy()
    assert await store.secrets() == {}


async def test_tomorrows_secret_is_made_in_the_evening(care, clock, store):
    """Six hours before the site's midnight and not earlier."""
    await care.tidy()
    assert await store.secrets() == {}
    clock.advance(6 * 3600 + 1)
    await care.tidy()
    assert list(await store.secrets()) == [(1, "2026-11-24")]


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


async def test_days_of_pages_are_kept_as_long_as_the_operator_wants(
    store, registry, clock, database: Database
):
    """For ever, or for so many days before today; more than one step's rows go in steps."""
    await registry.add(Site(id=0, domain="hue.gov.vn", time_zone="Asia/Ho_Chi_Minh"), NOON_MS)
    sites, keyring, presence = Sites(registry), Keyring(store), MemoryPresence(store)
    await sites.load()
    days = [neighbour(TODAY, -ago) for ago in range(6)]
    for place, day in enumerate(days):
        pages = {(1, day, f"/{number}"): [1, 1] for number in range(3000)}
        await store.commit(Batch(place, NOON_MS, Tally(pages=pages), b""))

    async def kept(keep_page_days: int | None) -> list[str]:
        parts = (store, sites, keyring, presence, Board(store, presence), clock, Announcer([]))
        await Housekeeping(*parts, keep_page_days).tidy()
        return [day for (day,) in await database.read("SELECT DISTINCT day FROM page_days ORDER BY day DESC")]

    assert await kept(None) == days
    assert await kept(2) == days[:3]
    assert await kept(5) == days[:3]
    assert await database.read("SELECT * FROM let_go") == [("page_days", days[2])]
    assert await database.read("SELECT sum(pageviews) FROM pages") == [(6 * 3000,)]


async def sizes_under_random_paths(
    care, store: SqliteStore, database: Database, clock, *, days: int, paths: int
) -> list[int]:
    """The file's size after each of `days`, on which nobody has `paths` pages read once and one page is read."""
    (site,) = care.sites
    sizes = []
    for day in range(days):
        now = clock.advance(86_400)
        hits = [hit(now, 1, f"/{day}/{secrets.token_hex(20)}", site=site) for _ in range(paths)]
        hits.append(hit(now, 1, "/read", site=site))
        touched = await MemoryPresence(store).touch(hits)
        tally = fold(hits, touched.touches, touched.peaks)
        await store.commit(Batch(day, now.wall_ms, tally, touched.open_visits))
        await care.tidy()
        await database.empty_log()
        sizes.append(database.space().data_bytes)
    ((pages, pageviews),) = await database.read("SELECT count(*), sum(pageviews) FROM pages")
    assert pages <= cardinality.PAGES_KEPT + cardinality.DAYS_HELD * paths
    assert pageviews == days * (paths + 1)
    assert await store.pages([(1, "/read")]) == {(1, "/read"): PageTotals(days, days)}
    assert list(audit(database.path, lambda *_: None)) == []
    return sizes


async def test_random_paths_do_not_grow_the_store_for_ever(
    care, store, clock, database: Database, monkeypatch
):
    """Past the pages that are kept, the file stays as it is; totals are exact, and the audit finds nothing."""
    monkeypatch.setattr(cardinality, "PAGES_KEPT", 2000)
    sizes = await sizes_under_random_paths(care, store, database, clock, days=20, paths=300)
    assert sizes[-1] < 1.1 * sizes[9]
    assert any(isinstance(heard, Folded) for heard in care.heard)


@pytest.mark.torture
async def test_months_of_random_paths_do_not_grow_the_store_for_ever(care, store, clock, database: Database):
    """As many every day as are taken, at the real bounds."""
    sizes = await sizes_under_random_paths(
        care, store, database, clock, days=60, paths=cardinality.PATHS_A_DAY
    )
    print(
        f"random paths: {60 * cardinality.PATHS_A_DAY:,} in 60 days,"
        f" store {sizes[14] / 1e6:.0f} MB after 15 days, {sizes[-1] / 1e6:.0f} MB after 60"
    )
    assert sizes[-1] < 1.1 * sizes[14]


async def test_a_reader_in_the_way_holds_nobody_up(care, database: Database, tmp_path: Path):
    """While a backup reads, destroyed secrets stay in the log; no commit waits for it, and the next time they go."""
    (site,) = care.sites
    old = await care.keyring.fetch(site, neighbour(TODAY, -3))
    with snapshot(tmp_path / "stats.db"):
        began = time.monotonic()
        await care.tidy()
        assert time.monotonic() - began < BUSY_TIMEOUT_SECONDS / 2
    await care.tidy()
    assert old not in b"".join(path.read_bytes() for path in tmp_path.iterdir())
