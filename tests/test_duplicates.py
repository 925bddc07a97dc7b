import msgspec
from hypothesis import given
from hypothesis import strategies as st

from statsvc import duplicates as duplicates_module
from statsvc.duplicates import Duplicates
from statsvc.model import DropReason
from statsvc.ports import Batch
from statsvc.stores.sqlite import SqliteStore
from statsvc.tally import ENGAGEMENT, Tally
from tests.facts import NOON_MS, SITE, FakeClock, hit

RELOADED = msgspec.structs.replace(SITE, repeat_seconds=10)
EVENT = {"n": "pageview", "u": "https://hue.gov.vn/a", "d": "hue.gov.vn"}


async def test_an_id_outlives_the_process(store: SqliteStore, clock: FakeClock):
    """It is committed with its event; without that commit it is not known."""
    sifted = await Duplicates(store).sift([hit(clock.now(), receipt=2**60 - 1), hit(clock.now(), receipt=0)])
    assert len(sifted.hits) == 2
    assert not (await Duplicates(store).sift([hit(clock.now(), receipt=0)])).dropped
    await store.commit(Batch(1, NOON_MS, Tally(), b"", sifted.receipts))
    restarted = await Duplicates(store).sift(sifted.hits)
    assert restarted == ([], {0: DropReason.DUPLICATE, 1: DropReason.DUPLICATE}, [], set())


async def test_ids_in_memory_are_bounded_and_the_latest_stay(store, clock, monkeypatch):
    """Also those read from the store."""
    monkeypatch.setattr(duplicates_module, "RECEIPTS_HELD", 3)
    duplicates = Duplicates(store)
    sifted = await duplicates.sift([hit(clock.now(), receipt=receipt) for receipt in range(7)])
    await store.commit(Batch(1, NOON_MS, Tally(), b"", sifted.receipts))
    for known in (duplicates, Duplicates(store)):
        dropped = (await known.sift([hit(clock.now(), receipt=receipt) for receipt in (6, 5, 4)])).dropped
        assert list(dropped) == [0, 1, 2]
        assert not (await known.sift([hit(clock.now(), receipt=0)])).dropped


@given(gaps=st.lists(st.sampled_from([0, 3, 9, 10, 30]), max_size=20))
async def test_within_the_repeat_window_a_reload_is_no_pageview(store, gaps):
    """From one that counts to the next there are at least ten seconds; the others are engagement."""
    clock, duplicates = FakeClock(NOON_MS), Duplicates(store)
    viewed_ms = -(10**9)
    for gap in [0, *gaps]:
        now = clock.advance(gap)
        sifted = await duplicates.sift([hit(now, site=RELOADED)])
        counts = now.steady_ms - viewed_ms >= 10_000
        assert [each.name == ENGAGEMENT for each in sifted.hits] == [not counts]
        assert sifted.dropped == ({} if counts else {0: DropReason.REPEAT})
        viewed_ms = now.steady_ms if counts else viewed_ms


async def test_another_page_visitor_or_event_is_no_repeat(store, clock: FakeClock):
    """And over midnight a visitor is the same."""
    duplicates, now = Duplicates(store), clock.now()
    different = [
        hit(now, 1, "/", site=RELOADED),
        hit(now, 2, "/", site=RELOADED),
        hit(now, 1, "/a", site=RELOADED),
        hit(now, 1, "/", "Download", site=RELOADED),
        hit(now, 1, "/", "Download", site=RELOADED),
        hit(now, 1, "/"),
    ]
    assert not (await duplicates.sift(different)).dropped
    assert (await duplicates.sift([hit(now, 9, "/", site=RELOADED, formerly=(2,))])).dropped


async def test_what_could_not_be_committed_is_forgotten(store, clock: FakeClock):
    """Its second sending is no repeat."""
    duplicates = Duplicates(store)
    for _ in range(2):
        assert not (await duplicates.sift([hit(clock.now(), site=RELOADED, receipt=1)])).dropped
        duplicates.forget()


async def test_pageviews_in_memory_are_bounded(store, clock: FakeClock, monkeypatch):
    """The oldest goes, and would count again."""
    monkeypatch.setattr(duplicates_module, "PAGEVIEWS_HELD", 3)
    duplicates, now = Duplicates(store), clock.now()
    views = [hit(now, visitor, site=RELOADED) for visitor in range(5)]
    await duplicates.sift(views)
    assert (await duplicates.sift(views[::-1])).dropped == dict.fromkeys((0, 1, 2), DropReason.REPEAT)


async def test_a_retried_event_is_told_the_totals_and_that_it_was_counted(start, clock):
    """Over HTTP, with a text or a number for an id, over a restart and for a day."""
    async with start() as app:
        await app.event(**EVENT, id="0d3e-7")
        await app.event(**EVENT, id=0.123456789)
    async with start() as app:
        clock.advance(23 * 3600)
        for identity in ("0d3e-7", 0.123456789):
            async with app.session.post(
                f"{app.public}/api/event", json=EVENT | {"id": identity}, headers={"User-Agent": "Firefox"}
            ) as response:
                assert response.status == 202
                assert response.headers["X-Statsvc-Dropped"] == "duplicate"
                answer = await response.json()
                assert answer["pageviews"]["total"] == 2
                assert answer["pages"]["/a"]["pageviews"] == 2
        assert (await app.event(**EVENT, id="0d3e-8"))["pageviews"]["total"] == 3


async def test_an_id_is_of_one_site_and_one_name_and_engagement_has_none(start):
    """A page's own events may bear its id: a click is no duplicate of the view."""
    async with start(sites="hue.gov.vn,dalat.vn") as app:
        for name in ("pageview", "Download", "engagement", "engagement"):
            await app.event(**EVENT | {"n": name}, id="1")
        await app.event(n="pageview", u="https://dalat.vn/", d="dalat.vn", id="1")
        async with app.session.get(f"{app.operations}/metrics") as response:
            assert "dropped_total{" not in await response.text()
        totals = await app.totals("dalat.vn")
        assert totals["pageviews"]["total"] == 1


async def test_a_bots_event_that_is_sent_again_has_one_reason(app):
    """The last one: for one site the event is dropped once, in the header and in the metric."""
    for reason in ("bot", "duplicate"):
        async with app.session.post(
            f"{app.public}/api/event", json=EVENT | {"id": "1"}, headers={"User-Agent": "curl/8"}
        ) as response:
            assert response.headers["X-Statsvc-Dropped"] == reason
            assert response.headers["X-Plausible-Dropped"] == "1"
    async with app.session.get(f"{app.operations}/metrics") as response:
        assert 'dropped_total{reason="bot",site="hue.gov.vn"} 1\n' in await response.text()


async def test_an_id_that_is_too_long_is_told(app):
    """With what was expected."""
    answer = await app.event(400, **EVENT, id="x" * 101)
    assert list(answer["errors"]) == ["id"]
