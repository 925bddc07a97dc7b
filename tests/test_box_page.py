"""`GET /box`: the counter box in a frame of another site's page, with scripts and without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from statsvc.api.box import REFRESH_SECONDS
from tests.browser import Portal, Reader
from tests.process import Service, command, eventually


async def page_of(app, query: str = "lang=vi", **headers: str) -> str:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with app.session.get(f"{app.public}/box?site=hue.gov.vn&{query}", headers=headers) as response:
        assert response.status == 200
        return await response.text()


async def test_it_has_the_numbers_in_the_page_itself(app):
    """Drawn by the server, in the language asked for, with a label for screen readers."""
    for visitor in range(1234):
        await app.view("/", visitor)
    page = await page_of(app)
    assert '<html lang="vi" dir="ltr" data-theme="auto">' in page
    assert '<div class="visits"><dt>Tổng truy cập</dt><dd>1.234</dd></div>' in page
    assert '<div class="box" role="group" aria-labelledby="title">' in page
    assert '<html lang="ar" dir="rtl" data-theme="dark">' in await page_of(app, "lang=ar&theme=dark")


async def test_it_may_be_framed_and_do_nothing_else(app):
    """Any page may show it; its own script and style are all that it may run and load. Looking is not counted."""
    async with app.session.get(f"{app.public}/box?site=hue.gov.vn") as response:
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert "X-Frame-Options" not in response.headers
        assert response.headers["Cache-Control"] == "public, max-age=5"
        etag = response.headers["ETag"]
    assert {"frame-ancestors *", "default-src 'none'", "connect-src 'self'", "form-action 'none'"} <= set(
        policy
    )
    assert not any("unsafe" in part for part in policy)
    async with app.session.get(
        f"{app.public}/box?site=hue.gov.vn", headers={"If-None-Match": etag}
    ) as response:
        assert response.status == 304
    assert (await app.totals())["pageviews"]["total"] == 0


@pytest.mark.parametrize(
    ("query", "status"),
    [("", 400), ("site=x.vn", 404), ("site=hue.gov.vn&show=x", 400), ("site=secret.vn", 403)],
)
async def test_bad_questions_get_a_status(start, tmp_path: Path, query, status):
    """As everywhere."""
    command(tmp_path / "stats.db", "site", "add", "secret.vn", "--no-public")
    async with start() as app, app.session.get(f"{app.public}/box?{query}") as response:
        assert response.status == status
        assert (await response.json())["error"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = tmp_path / "stats.db"
    command(store, "site", "add", "portal.test")
    with Service(store) as service:
        yield service


def framed(portal: Portal, service: Service) -> str:
    """A page of the portal with the box in a frame; its address."""
    source = f"http://stats.test:{service.public.rpartition(':')[2]}/box?site=portal.test&lang=vi"
    return portal.put("/", f'<iframe src="{source}" title="Thống kê truy cập"></iframe>')


def test_the_frame_follows_the_numbers_and_outlives_the_service(browser, portal, service, tmp_path: Path):
    """New numbers come without a reload; when the service is away the last ones stay."""
    with Reader(browser) as reader:
        reader.page.clock.install()
        reader.page.goto(framed(portal, service))
        total = reader.page.frame_locator("iframe").locator(".visits dd")
        expect(total).to_have_text("0")
        baseline = ("site", "baseline", "portal.test", "--visits", "1055568", "--reason", "the old counter")
        command(tmp_path / "stats.db", *baseline)

        def new_numbers() -> bool:
            reader.page.clock.fast_forward(REFRESH_SECONDS * 1000)
            return total.text_content() == "1.055.568"

        eventually(new_numbers)
        assert service.stop() == 0
        reader.page.clock.fast_forward(REFRESH_SECONDS * 1000)
        expect(total).to_have_text("1.055.568")
        assert reader.events == []
        assert reader.errors == []


def test_without_scripts_the_box_shows_the_numbers_and_reloads_itself(browser, portal, service):
    """The numbers are in the page; the browser is told to load it again."""
    with Reader(browser, java_script_enabled=False) as reader:
        reader.page.goto(framed(portal, service))
        frame = reader.page.frame_locator("iframe")
        expect(frame.locator(".visits dt")).to_have_text("Tổng truy cập")
        expect(frame.locator(".visits dd")).to_have_text("0")
        # A frame of another site is another process: there the browser may parse before it knows of no scripts.
        reader.page.goto(reader.page.locator("iframe").get_attribute("src") or "")
        refresh = reader.page.locator('meta[http-equiv="refresh"]')
        assert refresh.get_attribute("content") == str(REFRESH_SECONDS)
