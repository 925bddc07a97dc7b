"""`GET /badge.svg`: the picture over HTTP, and the pageview it can record."""

import asyncio
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote

import pytest

from statsvc.languages import labels
from tests.process import CHROME, command

SVG = "{http://www.w3.org/2000/svg}"
PAGE = quote("https://hue.gov.vn/tin-tuc/1", safe="")


async def badge(app, query: str = "", status: int = 200, **headers: str):
    """The answer, and the texts of its picture."""
    headers = {"User-Agent": CHROME} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with app.session.get(
        f"{app.public}/badge.svg?site=hue.gov.vn&{query}", headers=headers
    ) as response:
        body = await response.text()
        assert response.status == status, body
        if status != 200:
            return response, body
        assert response.content_type == "image/svg+xml"
        return response, ["".join(text.itertext()) for text in ET.fromstring(body).iter(f"{SVG}text")]


async def test_it_shows_the_totals(app):
    """The numbers that /api/totals has, in rows, under the title; nothing is recorded by looking."""
    for visitor in range(3):
        await app.view("/tin-tuc/1", visitor)
    await app.view("/", 1)
    rows = "visits,current,today,yesterday,this-week,this-month,this-year,pageviews,peak,page"
    response, texts = await badge(app, f"lang=vi&show={rows}&path=/tin-tuc/1")
    assert texts[0] == "Thống kê truy cập"
    assert texts[1:] == [
        *("Tổng truy cập", "3", "Truy cập hiện tại", "● 3", "Hôm nay", "3", "Hôm qua", "0"),
        *(
            "Tuần này",
            "3",
            "Tháng này",
            "3",
            "Năm nay",
            "3",
            "Lượt xem",
            "4",
            "Cao nhất",
            "3",
            "Trang này",
            "3",
        ),
    ]
    assert (
        response.headers["Content-Security-Policy"]
        == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    assert (await app.totals())["pageviews"]["total"] == 4


async def test_it_is_cached_for_seconds_and_known_by_its_etag(app, clock):
    """304 while the picture is the same; a new one when the numbers are new."""
    response, _ = await badge(app, "lang=vi")
    assert response.headers["Cache-Control"] == "public, max-age=5"
    etag = response.headers["ETag"]
    clock.advance(60)
    again, body = await badge(app, "lang=vi", 304, If_None_Match=etag)
    assert (again.headers["ETag"], body) == (etag, "")
    await app.view("/")
    changed, _ = await badge(app, "lang=vi", If_None_Match=etag)
    assert changed.headers["ETag"] != etag


async def test_it_counts_the_page_it_stands_on(app):
    """With count=1 it records as the pixel does, shows what it has recorded, and is never cached."""
    response, texts = await badge(app, f"lang=vi&show=visits,page&count=1&u={PAGE}")
    assert texts[1:] == ["Tổng truy cập", "1", "Trang này", "1"]
    assert "no-store" in response.headers["Cache-Control"]
    assert "ETag" not in response.headers
    totals = await app.totals("hue.gov.vn", "/tin-tuc/1")
    assert totals["pages"]["/tin-tuc/1"] == {"visits": 1, "pageviews": 1, "current": 1}


async def test_what_is_not_counted_is_told(app):
    """A page of another host, and a bot: the picture is drawn, and a header says why nothing was counted."""
    response, _ = await badge(app, f"count=1&u={quote('https://evil.vn/', safe='')}")
    assert response.headers["X-Statsvc-Dropped"] == "hostname"
    response, _ = await badge(app, f"count=1&u={PAGE}", User_Agent="Googlebot/2.1")
    assert response.headers["X-Statsvc-Dropped"] == "bot"
    assert (await app.totals())["pageviews"]["total"] == 0


async def test_asking_for_the_headers_counts_nothing(app):
    """A HEAD request sees no page."""
    async with app.session.head(f"{app.public}/badge.svg?site=hue.gov.vn&count=1&u={PAGE}") as response:
        assert response.status == 200
    assert (await app.totals())["pageviews"]["total"] == 0


async def test_without_a_language_it_is_the_readers(app):
    """Accept-Language decides, and caches are told so; `lang` decides alone."""
    response, texts = await badge(app, Accept_Language="de-DE,de;q=0.9,en;q=0.8")
    assert texts[0] == labels()["de"]["title"]
    assert response.headers["Vary"] == "Accept-Language"
    response, texts = await badge(app, "lang=vi", Accept_Language="de")
    assert texts[0] == "Thống kê truy cập"
    assert "Vary" not in response.headers
    for unusable in ("*", "<svg>", ""):
        assert (await badge(app, Accept_Language=unusable))[1][0] == labels()["en"]["title"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("show=visits,online", "show: has no row 'online'; there are visits, current,"),
        ("show=title", "show: has no row 'title'"),
        ("show=page", "path: is required for the row page"),
        ("show=page&path=tin-tuc", "path: must begin with /, as in a URL, got 'tin-tuc'"),
        ("lang=../en", "lang: expected a language such as vi or en-GB, got '../en'"),
        ("theme=red", "theme: expected light, dark, auto, got 'red'"),
        ("style=3d", "style: expected box, flat, got '3d'"),
        ("count=yes", "count: expected 0 or 1, got 'yes'"),
        ("count=1", "u: is required where count is 1"),
        ("count=1&u=ftp%3A%2F%2Fhue.gov.vn", "url: must begin with"),
    ],
)
async def test_bad_parameters_get_a_sentence(app, query, said):
    """400, with the name of the field."""
    _, body = await badge(app, query, 400)
    assert said in body


async def test_all_that_is_wrong_is_told_at_once(app):
    """Each field by its name."""
    _, body = await badge(app, "show=x&lang=.&theme=x&style=x", 400)
    assert all(f'"{field}":[' in body for field in ("show", "lang", "theme", "style"))


async def test_an_unknown_and_a_private_site(app, tmp_path: Path):
    """404, and 403 without a token; a picture for a token must not be kept by a shared cache."""
    async with app.session.get(f"{app.public}/badge.svg?site=x.vn") as response:
        assert response.status == 404
    store = tmp_path / "stats.db"
    # Beside the service, which runs in this thread and may be in the middle of a transaction.
    await asyncio.to_thread(command, store, "site", "set", "hue.gov.vn", "--no-public")
    token = (await asyncio.to_thread(command, store, "site", "token", "hue.gov.vn")).split()[-1]
    while True:
        async with app.session.get(f"{app.public}/badge.svg?site=hue.gov.vn&count=1&u={PAGE}") as response:
            if response.status == 403:
                break
    response, _ = await badge(app, "lang=vi", Authorization=f"Bearer {token}")
    assert response.headers["Cache-Control"] == "private, max-age=5"


async def test_hostile_queries_draw_nothing_of_theirs(app):
    """A path and an address are looked up and recorded, and never drawn."""
    hostile = quote("/<script>alert(1)</script>\x00\ud800".encode("utf-8", "surrogatepass"), safe="")
    await app.view(f"/{hostile}")
    for query in (f"show=page&path={hostile}", f"show=page&count=1&u=https%3A%2F%2Fhue.gov.vn%2F{hostile}"):
        _, texts = await badge(app, query)
        assert "script" not in "".join(texts)
