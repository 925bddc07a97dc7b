import pytest

from statsvc import cardinality
from statsvc.announcements import Announcer, Capped
from statsvc.cardinality import OTHER, Cardinality
from statsvc.model import Site
from statsvc.ports import Batch
from statsvc.presence.memory import MemoryPresence
from statsvc.tally import fold
from tests.facts import ZONE, FakeClock, hit
from tests.test_log import Listener


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(cardinality, "PATHS_A_DAY", 3)
    monkeypatch.setattr(cardinality, "NAMES_A_DAY", 2)


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def bounded(store, listener) -> Cardinality:
    return Cardinality(store, Announcer([listener]))


async def test_paths_beyond_the_days_are_other(bounded, listener, clock: FakeClock):
    """Those that were there before still count under their own name, and operators are told."""
    now = clock.now()
    hits = await bounded.bound([hit(now, path=f"/{n % 5}") for n in range(10)])
    assert [each.path for each in hits] == ["/0", "/1", "/2", OTHER, OTHER] * 2
    assert listener.heard == [Capped("hue.gov.vn", "path")] * 4


async def test_names_beyond_the_days_are_other(bounded, clock: FakeClock):
    """A pageview is always a pageview."""
    names = ["a", "b", "pageview", "c", "engagement", "a"]
    hits = await bounded.bound([hit(clock.now(), name=name) for name in names])
    assert [each.name for each in hits] == ["a", "b", "pageview", OTHER, "engagement", "a"]


async def test_pageviews_take_no_room_from_custom_names(store, bounded, clock: FakeClock):
    """Though the store has them among the day's names."""
    hits = [hit(clock.now(), name=name) for name in ("pageview", "engagement")]
    touched = await MemoryPresence(store).touch(hits)
    tally = fold(hits, touched.touches, touched.peaks)
    await store.commit(Batch(1, clock.now().wall_ms, tally, touched.open_visits))
    assert [each.name for each in await bounded.bound([hit(clock.now(), name="a")])] == ["a"]


async def test_a_day_and_a_site_have_their_own(bounded, clock: FakeClock):
    """Tomorrow there is room again, and another site is not concerned."""
    other = Site(id=2, domain="b.vn", time_zone=ZONE)
    for moment in (clock.now(), clock.advance(86_400), clock.advance(86_400)):
        for site in (hit(moment).site, other):
            hits = await bounded.bound(
                [hit(moment, path=f"/{moment.wall_ms}/{n}", site=site) for n in range(4)]
            )
            assert [each.path == OTHER for each in hits] == [False, False, False, True]
    assert len(bounded._paths._days[1]) <= 2


async def test_a_restart_knows_what_the_day_had(store, bounded, listener, clock: FakeClock):
    """Ending the process gives no more room."""
    hits = await bounded.bound([hit(clock.now(), path=f"/{n}", name=f"n{n}") for n in range(3)])
    touched = await MemoryPresence(store).touch(hits)
    tally = fold(hits, touched.touches, touched.peaks)
    await store.commit(Batch(1, clock.now().wall_ms, tally, touched.open_visits))
    restarted = Cardinality(store, Announcer([listener]))
    hits = await restarted.bound([hit(clock.now(), path="/0"), hit(clock.now(), path="/new", name="new")])
    assert [(each.path, each.name) for each in hits] == [("/0", "pageview"), (OTHER, OTHER)]


async def test_a_sites_totals_stay_exact(app, monkeypatch):
    """Random paths are one page in the store, and every one of their pageviews is in the site's total."""
    for n in range(20):
        await app.view(f"/random/{n}", visitor=n)
    totals = await app.totals("hue.gov.vn", "/random/0")
    assert totals["pageviews"]["total"] == totals["visits"]["total"] == 20
    async with app.session.get(f"{app.operations}/metrics") as response:
        assert 'statsvc_events_capped_total{site="hue.gov.vn",what="path"} 17\n' in await response.text()
