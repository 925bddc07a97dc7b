"""The contract of `ports.Store` and `ports.Registry`, over every backend.

A new backend joins by one more opener in BACKENDS; nothing below knows which one it runs on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from statsvc.announcements import Announcer
from statsvc.errors import SiteError
from statsvc.model import DayCounts, PageTotals, Peak, Scope, Site
from statsvc.ports import Batch, Registry, Store
from statsvc.stores.outbox import OutboxStore
from statsvc.stores.postgres import PostgresDatabase, PostgresRegistry, PostgresStore
from statsvc.stores.sqlite import Database, SqliteRegistry, SqliteStore
from statsvc.tally import Tally
from tests.facts import NOON_MS, history_of
from tests.postgres import database_of

TODAY = "2026-11-23"
DAY_MS = 24 * 3600 * 1000


class Opened(NamedTuple):
    store: Store
    registry: Registry


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Opened]:
    database = await Database.open(folder / "stats.db", serving=False)
    try:
        yield Opened(SqliteStore(database), SqliteRegistry(database))
    finally:
        await database.close()


@asynccontextmanager
async def postgres(folder: Path) -> AsyncIterator[Opened]:
    database = await PostgresDatabase.open(database_of(folder))
    try:
        yield Opened(PostgresStore(database), PostgresRegistry(database))
    finally:
        await database.close()


@asynccontextmanager
async def outbox(folder: Path) -> AsyncIterator[Opened]:
    """As in front of a store in a network; each opening is a node with an outbox of its own."""
    async with sqlite(folder) as opened:
        path = folder / f"outbox{len(list(folder.glob('*.db')))}.db"
        store = await OutboxStore.open(opened.store, path, 10_000_000, Announcer([]))
        try:
            yield Opened(store, opened.registry)
        finally:
            await store.close()


Opener = Callable[[Path], AbstractAsyncContextManager[Opened]]
BACKENDS: list[Opener] = [sqlite, postgres, outbox]


@pytest.fixture(params=BACKENDS, ids=lambda opener: opener.__name__)
def opener(request: pytest.FixtureRequest) -> Opener:
    return request.param


@pytest.fixture
async def opened(opener: Opener, tmp_path: Path) -> AsyncIterator[Opened]:
    async with opener(tmp_path) as opened:
        yield opened


def batch(
    number: int = 1,
    tally: Tally | None = None,
    at_ms: int = NOON_MS,
    open_visits: bytes = b"",
    receipts: tuple[int, ...] = (),
) -> Batch:
    return Batch(number, at_ms, tally or Tally(), open_visits, receipts)


def a_tally(visits: int = 1, pageviews: int = 2, day: str = TODAY, visitors: tuple[int, ...] = (7,)) -> Tally:
    return Tally(
        hours={(1, NOON_MS // 1000, False): [visits, pageviews, pageviews + 1]},
        days={(1, day, False): [visits, pageviews, len(visitors)]},
        pages={(1, day, "/a"): [visits, pageviews]},
        names={(1, day, False, "pageview"): pageviews},
        newcomers={(1, day, False): list(visitors)},
        peaks={(1, day): Peak(visits, NOON_MS)},
    )


async def test_what_was_committed_is_there_after_a_restart(opener, tmp_path):
    """Totals, days, pages, peaks, visitors and open visits are known to the next process."""
    async with opener(tmp_path) as first:
        await first.store.commit(batch(1, a_tally(), open_visits=b"journal"))
    async with opener(tmp_path) as second:
        history = await history_of(second.store, 1, "2026-01-01", TODAY)
        assert history.total == PageTotals(1, 2)
        assert history.days == {TODAY: DayCounts(1, 2, 1)}
        assert history.peak == history.peak_today == Peak(1, NOON_MS)
        assert await second.store.pages([(1, "/a"), (1, "/b")]) == {(1, "/a"): PageTotals(1, 2)}
        assert await second.store.visitors(1, TODAY, False) == [7]
        assert await second.store.visitors(1, TODAY, True) == []
        assert await second.store.open_visits() == [b"journal"]


async def test_receipts_are_kept_in_order_until_they_are_forgotten(opener, tmp_path):
    """Of batches that have some; those of a batch that was there already are not kept twice."""
    async with opener(tmp_path) as first:
        for number, receipts in enumerate(((2**60 - 1, 1), (), (2,), (3,))):
            for _ in range(2):
                at_ms = NOON_MS + number * DAY_MS
                await first.store.commit(batch(number, at_ms=at_ms, receipts=receipts))
    async with opener(tmp_path) as second:
        assert await second.store.receipts() == [2**60 - 1, 1, 2, 3]
        await second.store.forget(NOON_MS, NOON_MS + DAY_MS, TODAY)
        assert await second.store.receipts() == [2, 3]


async def test_a_batch_counts_once_however_often_it_is_committed(opened):
    """A retry after a lost answer changes nothing."""
    for _ in range(3):
        await opened.store.commit(batch(1, a_tally()))
    await opened.store.commit(batch(2, a_tally()))
    assert (await history_of(opened.store, 1, TODAY, TODAY)).total == PageTotals(2, 4)
    assert await opened.store.visitors(1, TODAY, False) == [7, 7]


@hypothesis_settings(max_examples=15)
@given(
    counts=st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["2026-11-21", "2026-11-22", TODAY])),
        min_size=1,
        max_size=8,
    )
)
async def test_batches_add_up(opener, counts, tmp_path_factory):
    """The totals are the sum of what was committed, day by day, and days before the first are left out."""
    async with opener(tmp_path_factory.mktemp("store")) as opened:
        for number, (visits, pageviews, day) in enumerate(counts):
            await opened.store.commit(batch(number, a_tally(visits, pageviews, day)))
        history = await history_of(opened.store, 1, "2026-11-22", TODAY)
        assert history.total == PageTotals(sum(v for v, _, _ in counts), sum(p for _, p, _ in counts))
        for day in ("2026-11-22", TODAY):
            of_day = [(v, p) for v, p, d in counts if d == day]
            expected = DayCounts(sum(v for v, _ in of_day), sum(p for _, p in of_day), len(of_day))
            assert history.days.get(day, DayCounts(0, 0, 0)) == expected
        assert "2026-11-21" not in history.days


async def test_the_histories_of_many_sites_are_those_of_each(opened):
    """In the order in which they are asked for; also of a site that nobody has read, and of none."""
    for site in (1, 2):
        await opened.registry.add(Site(id=0, domain=f"{site}.vn"), NOON_MS)
        tally = Tally(days={(site, TODAY, False): [site, 2, 3]}, peaks={(site, TODAY): Peak(site, NOON_MS)})
        await opened.store.commit(batch(site, tally))
    await opened.registry.set_baseline(2, 100, 200, "old counter", NOON_MS)
    wanted = [(site, TODAY, TODAY) for site in (2, 3, 1)]
    assert await opened.store.histories(wanted) == [await history_of(opened.store, *of) for of in wanted]
    assert [history.total.visits for history in await opened.store.histories(wanted)] == [2, 0, 1]
    assert await opened.store.histories([]) == []


async def test_bots_are_kept_apart(opened):
    """A bot's counts are in no human number."""
    tally = Tally(days={(1, TODAY, True): [3, 4, 1]}, newcomers={(1, TODAY, True): [9]})
    await opened.store.commit(batch(1, tally))
    history = await history_of(opened.store, 1, TODAY, TODAY)
    assert history.total == PageTotals(0, 0)
    assert history.days == {}
    assert await opened.registry.totals(1) == {False: PageTotals(0, 0), True: PageTotals(3, 4)}
    assert await opened.store.visitors(1, TODAY, True) == [9]


async def test_a_peak_is_the_highest_and_its_first_moment(opened):
    """A later batch with as many or fewer visitors does not move the peak."""
    for number, (visitors, at) in enumerate([(3, 10), (5, 20), (5, 30), (2, 40)]):
        await opened.store.commit(batch(number, Tally(peaks={(1, TODAY): Peak(visitors, at)})))
    await opened.store.commit(batch(9, Tally(peaks={(1, "2026-11-24"): Peak(4, 50)})))
    history = await history_of(opened.store, 1, TODAY, "2026-11-24")
    assert history.peak == Peak(5, 20)
    assert history.peak_today == Peak(4, 50)


async def test_a_days_secret_is_one_secret(opened):
    """Many who ask for a new day's secret at once, each with its own, all get the same."""
    offered = [bytes([n]) * 32 for n in range(8)]
    got = await asyncio.gather(*(opened.store.secret(1, TODAY, new) for new in offered))
    assert len(set(got)) == 1
    assert got[0] in offered
    assert await opened.store.secret(1, TODAY, None) == got[0]
    assert await opened.store.secret(1, "2026-11-24", None) is None
    assert await opened.store.secrets() == {(1, TODAY): got[0]}


async def test_forget_destroys_what_is_old_and_nothing_else(opened):
    """Old journals, visitors and secrets go; counts stay."""
    await opened.registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
    for day, at_ms in (("2026-11-20", NOON_MS - 3 * DAY_MS), (TODAY, NOON_MS)):
        await opened.store.commit(batch(at_ms, a_tally(day=day), at_ms, day.encode()))
        await opened.store.secret(1, day, day.encode())
    await opened.store.forget(NOON_MS - DAY_MS, NOON_MS - 2 * DAY_MS, "2026-11-22")
    assert await opened.store.open_visits() == [TODAY.encode()]
    assert await opened.store.visitors(1, "2026-11-20", False) == []
    assert await opened.store.visitors(1, TODAY, False) == [7]
    assert await opened.store.secrets() == {(1, TODAY): TODAY.encode()}
    assert (await history_of(opened.store, 1, "2026-01-01", TODAY)).total == PageTotals(2, 4)


async def test_the_least_read_pages_become_one(opened):
    """Of all time and day by day, nothing is lost; pages that were seen lately stay, however little read."""
    await opened.registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
    for number, day in enumerate(("2026-11-20", "2026-11-21", TODAY)):
        pages = {(1, day, f"/{n}"): [1, n] for n in range(number, 10, 3)}
        pages |= {(1, day, "/read"): [5, 50], (2, day, "/elsewhere"): [1, 1]}
        await opened.store.commit(batch(number, Tally(pages=pages, days={(1, day, False): [0, 0, 0]})))
    assert await opened.store.fold_pages(1, 11, TODAY, "(other)") == []
    assert await opened.store.fold_pages(1, 7, TODAY, "(other)") == ["/0", "/1", "/3", "/4"]
    assert await opened.store.fold_pages(1, 7, TODAY, "(other)") == ["/6"]  # `(other)` is a page, too
    assert await opened.store.fold_pages(1, 7, TODAY, "(other)") == []
    assert await opened.store.fold_pages(1, 0, TODAY, "(other)") == ["/7", "/9"]
    there = await opened.store.pages([(1, f"/{n}") for n in range(10)] + [(1, "(other)"), (1, "/read")])
    assert there == {
        (1, "/2"): PageTotals(1, 2),
        (1, "/5"): PageTotals(1, 5),
        (1, "/8"): PageTotals(1, 8),
        (1, "/read"): PageTotals(15, 150),
        (1, "(other)"): PageTotals(7, 30),
    }
    assert await opened.store.paths(1, "2026-11-20") == {"(other)", "/read"}
    assert await opened.store.paths(1, TODAY) == {"/2", "/5", "/8", "/read"}
    assert await opened.store.paths(2, TODAY) == {"/elsewhere"}


async def test_open_visits_come_in_the_order_of_their_commits(opened):
    """Also where the wall clock went back between them, the newest is last."""
    await opened.store.commit(batch(20, at_ms=2000, open_visits=b"first"))
    await opened.store.commit(batch(10, at_ms=1000, open_visits=b"second"))
    assert await opened.store.open_visits() == [b"first", b"second"]


async def test_a_probe_commits(opened):
    """A probe changes no number."""
    await opened.store.probe()
    assert (await history_of(opened.store, 1, TODAY, TODAY)).total == PageTotals(0, 0)


async def test_another_process_changes_are_noticed_once(opener, tmp_path):
    """One's own commits are no changes; another's are, once."""
    async with opener(tmp_path) as served, opener(tmp_path) as command:
        version = await served.store.version()
        await served.store.commit(batch(1, a_tally()))
        assert await served.store.version() == version
        await command.registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
        changed = await served.store.version()
        assert changed != version
        assert await served.store.version() == changed


async def test_sites_are_added_changed_removed_and_come_back(opened):
    """A site keeps its id, and with it its counts, through all of it."""
    registry = opened.registry
    site = await registry.add(Site(id=0, domain="hue.gov.vn", aliases=("portal.vn",), public=False), NOON_MS)
    assert await registry.sites() == [site]
    assert site.aliases == ("portal.vn",)
    assert site.public is False
    with pytest.raises(SiteError, match="registered already"):
        await registry.add(site, NOON_MS)
    changed = Site(id=site.id, domain="hue.gov.vn", time_zone="Asia/Tokyo", window_seconds=60)
    await registry.change(changed)
    assert await registry.sites() == [changed]
    await registry.remove(changed, NOON_MS)
    assert await registry.sites() == []
    with pytest.raises(SiteError, match="has been removed"):
        await registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
    assert await registry.removed("hue.gov.vn") == changed
    back = Site(id=0, domain="hue.gov.vn", time_zone="Asia/Tokyo", window_seconds=90)
    assert await registry.add(back, NOON_MS, again=True) == msgspec.structs.replace(back, id=site.id)
    assert await registry.removed("hue.gov.vn") is None


async def test_the_newest_baseline_that_is_not_undone_holds(opened):
    """Baselines are set, corrected and undone; all of it stays in the history."""
    registry, store = opened.registry, opened.store
    site = await registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)

    async def baseline() -> PageTotals:
        return (await history_of(store, site.id, TODAY, TODAY)).baseline

    assert await baseline() == PageTotals(0, 0)
    await registry.set_baseline(site.id, 1000, 5000, "old counter", NOON_MS)
    await registry.set_baseline(site.id, 900, 4000, "a correction", NOON_MS + 1)
    assert await baseline() == PageTotals(900, 4000)
    undone = await registry.undo_baseline(site.id, "was right before", NOON_MS + 2)
    assert (undone.visits, undone.undone_reason) == (900, "was right before")
    assert await baseline() == PageTotals(1000, 5000)
    await registry.undo_baseline(site.id, "none at all", NOON_MS + 3)
    assert await baseline() == PageTotals(0, 0)
    with pytest.raises(SiteError, match="no baseline"):
        await registry.undo_baseline(site.id, "more", NOON_MS + 4)
    assert [entry.reason for entry in await registry.baselines(site.id)] == ["a correction", "old counter"]


async def test_a_token_is_for_a_site_or_for_all_until_it_is_revoked(opened):
    """Tokens are known by their digest only, all of it."""
    registry = opened.registry
    site = await registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
    other = await registry.add(Site(id=0, domain="dalat.vn"), NOON_MS)
    token = await registry.add_token(site.id, Scope.READ, b"digest of one", "for the intranet", NOON_MS)
    general = await registry.add_token(None, Scope.ADMIN, b"digest of all", "", NOON_MS)
    assert await registry.token(b"digest of one") == token
    assert await registry.token(b"digest of all") == general
    assert [known.opens(of) for known in (token, general) for of in (site, other)] == [
        True,
        False,
        True,
        True,
    ]
    assert await registry.token(b"digest of none") is None
    await registry.revoke_token(token.id, NOON_MS)
    assert await registry.token(b"digest of one") is None
    assert [entry.revoked_at_ms for entry in await registry.tokens(site.id)] == [NOON_MS]
    assert await registry.tokens(None) == [general]
    with pytest.raises(SiteError, match="no token"):
        await registry.revoke_token(token.id, NOON_MS)


async def test_reading_totals_reads_no_more_with_history(opened):
    """A history of years costs what the days shown cost: it is read from the days' and totals' keys."""
    for year in range(2016, 2027):
        tally = Tally(days={(1, f"{year}-{month:02}-01", False): [1, 1, 1] for month in range(1, 12)})
        await opened.store.commit(batch(year, tally))
    history = await history_of(opened.store, 1, "2026-01-01", TODAY)
    assert history.total == PageTotals(121, 121)
    assert len(history.days) == 11


async def test_days_of_pages_are_let_go_and_nothing_else(opened):
    """Counts of pages by day go, for every site; their all-time totals and the sites' days stay."""
    await opened.registry.add(Site(id=0, domain="hue.gov.vn"), NOON_MS)
    await opened.store.commit(batch(1, a_tally(day="2026-11-20")))
    await opened.store.commit(batch(2, a_tally(day=TODAY)))
    await opened.store.let_go_of_page_days("2026-11-22")
    await opened.store.let_go_of_page_days("2026-11-21")
    assert await opened.store.pages([(1, "/a")]) == {(1, "/a"): PageTotals(2, 4)}
    history = await history_of(opened.store, 1, "2026-01-01", TODAY)
    assert history.total == PageTotals(2, 4)
    assert set(history.days) == {"2026-11-20", TODAY}
