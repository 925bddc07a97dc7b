from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from statsvc.model import Scope
from statsvc.stores.sqlite import Database, SqliteRegistry
from tests.facts import NOON_MS


async def test_totals_are_read_without_recording(app):
    """Reading changes nothing; an unseen page is zeros of its own."""
    before = await app.totals("hue.gov.vn", "/a")
    assert await app.totals("hue.gov.vn", "/a") == before
    assert before["visits"]["total"] == 0
    assert before["current"]["peak"] == {"visitors": 0, "at": None}
    assert before["pages"] == {"/a": {"visits": 0, "pageviews": 0, "current": 0}}


async def test_pages_are_named_as_they_were_asked_for(app):
    """However a path is written, its page is found, and answered under the name that was asked for."""
    await app.view("/tin%20t%E1%BB%A9c/")
    pages = (await app.totals("hue.gov.vn", "/tin tức", "/tin%20t%E1%BB%A9c/"))["pages"]
    page = {"visits": 1, "pageviews": 1, "current": 1}
    assert pages == {"/tin tức": page, "/tin%20t%E1%BB%A9c/": page}


async def test_an_etag_spares_the_body_while_numbers_are_the_same(app, clock):
    """304 for as long as nothing changed, though time has passed; then the new numbers."""
    url = f"{app.public}/api/totals?site=hue.gov.vn"
    await app.view("/")
    async with app.session.get(url) as response:
        etag = response.headers["ETag"]
        assert "max-age=" in response.headers["Cache-Control"]
    clock.advance(10)
    async with app.session.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 304
        assert response.headers["ETag"] == etag
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert await response.read() == b""
    clock.advance(300)
    async with app.session.get(url, headers={"If-None-Match": etag}) as response:
        assert response.status == 200
        assert (await response.json())["current"]["visitors"] == 0


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("", 400, "site: is required"),
        ("site=x.vn", 404, "x.vn"),
        ("site=hue.gov.vn&" + "path=/&" * 101, 400, "at most 100"),
        ("site=hue.gov.vn&path=tin-tuc", 400, "must begin with /"),
    ],
)
async def test_bad_questions_get_a_sentence(app, query, status, said):
    """What was asked wrong is said."""
    async with app.session.get(f"{app.public}/api/totals?{query}") as response:
        assert response.status == status
        assert said in (await response.json())["error"]


async def test_a_private_site_wants_a_token(start, tmp_path: Path):
    """403 without a token for the site, the totals with one; events are recorded all the same."""
    async with start(sites="hue.gov.vn,other.vn"):
        pass
    database = await Database.open(tmp_path / "stats.db", serving=False)
    registry = SqliteRegistry(database)
    hue, other = await registry.sites()
    await registry.change(msgspec.structs.replace(hue, public=False))
    for site, token in ((hue, "right"), (other, "for another site")):
        await registry.add_token(site.id, Scope.READ, sha256(token.encode()).digest(), "", NOON_MS)
    await database.close()
    async with start() as app:
        recorded = await app.view("/")
        assert "visits" not in recorded
        assert recorded["engagement_seconds"] == 120
        for header, status in (
            ({}, 403),
            ({"Authorization": "Bearer wrong"}, 403),
            ({"Authorization": "Bearer for another site"}, 403),
            ({"Authorization": "Basic right"}, 403),
            ({"Authorization": "Bearer right"}, 200),
        ):
            async with app.session.get(
                f"{app.public}/api/totals?site=hue.gov.vn", headers=header
            ) as response:
                assert response.status == status
                answer = await response.json()
                if status == 200:
                    assert answer["pageviews"]["total"] == 1
                    assert "private" in response.headers["Cache-Control"]


async def test_totals_follow_the_calendar(app, clock):
    """Today becomes yesterday at local midnight, this week last week on Monday, without an event."""
    await app.view("/")  # Monday
    clock.advance(86_400)
    totals = await app.totals()
    assert (totals["visits"]["today"], totals["visits"]["yesterday"], totals["visits"]["this_week"]) == (
        0,
        1,
        1,
    )
    assert totals["visitors"] == {"today": 0, "yesterday": 1}
    clock.advance(6 * 86_400)
    totals = await app.totals()
    assert (totals["visits"]["yesterday"], totals["visits"]["this_week"], totals["visits"]["last_week"]) == (
        0,
        0,
        1,
    )
    assert totals["visits"]["this_month"] == 1
    clock.advance(86_400)
    totals = await app.totals()
    assert (
        totals["visits"]["this_month"],
        totals["visits"]["last_month"],
        totals["visits"]["this_year"],
    ) == (0, 1, 1)
    clock.advance(31 * 86_400)
    totals = await app.totals()
    assert (totals["visits"]["this_year"], totals["visits"]["total"]) == (0, 1)
    assert totals["current"]["peak"]["visitors"] == 1
    assert totals["current"]["peak_today"] == {"visitors": 0, "at": None}


async def test_a_hundred_long_paths_are_answered(app):
    """Vietnamese paths are long in a URL: all of a list page's articles fit into one question."""
    paths = [f"/thông-báo-về-việc-tổ-chức-hội-nghị-trực-tuyến-{n}" for n in range(100)]
    await app.view(paths[99])
    pages = (await app.totals("hue.gov.vn", *paths))["pages"]
    assert len(pages) == 100
    assert pages[paths[99]]["pageviews"] == 1


@pytest.mark.parametrize("asked", ["*", 'W/"x", {etag}', "{strong}"])
async def test_if_none_match_is_read_as_the_rfc_says(app, asked):
    """Any of a list, any at all, and the weak comparison."""
    url = f"{app.public}/api/totals?site=hue.gov.vn"
    async with app.session.get(url) as response:
        etag = response.headers["ETag"]
    header = asked.format(etag=etag, strong=etag.removeprefix("W/"))
    async with app.session.get(url, headers={"If-None-Match": header}) as response:
        assert response.status == 304
