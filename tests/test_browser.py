"""counter.js and the service's own page, as a real browser meets them."""

import http.client
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser import Portal, Reader, chromium
from tests.process import Service, command, eventually

BASE_VISITS = 1_055_567
BASE_PAGEVIEWS = 3_000_000
BOX = """
    <b id="total" data-statsvc="visits.total">trước đây</b>
    <b id="now" data-statsvc="current.visitors">–</b>
"""
HIDE = """state => {
    Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
}"""
PRERENDERING = """
    Object.defineProperty(document, "prerendering", { value: true, configurable: true });
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def portal() -> Iterator[Portal]:
    with Portal() as portal:
        yield portal


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    with Reader(browser) as reader:
        yield reader


@pytest.fixture(scope="module")
def first_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the site portal.test, as its old counter left it."""
    store: Path = tmp_path_factory.mktemp("first") / "stats.db"
    command(store, "site", "add", "portal.test")
    counts = ("--visits", str(BASE_VISITS), "--pageviews", str(BASE_PAGEVIEWS))
    command(store, "site", "baseline", "portal.test", *counts, "--reason", "the old counter")
    return store


@pytest.fixture
def store(first_store: Path, tmp_path: Path) -> Path:
    store = tmp_path / "stats.db"
    store.write_bytes(first_store.read_bytes())
    return store


@pytest.fixture
def service(store: Path) -> Iterator[Service]:
    with Service(store) as service:
        yield service


def script(service: Service, domain: str = "portal.test") -> str:
    """The line an editor pastes."""
    return f'<script defer src="{origin(service)}/counter.js" data-domain="{domain}"></script>'


def origin(service: Service) -> str:
    return f"http://stats.test:{service.public.rpartition(':')[2]}"


def totals(service: Service, path: str = "/") -> Any:
    address = f"http://{service.public}/api/totals?site=portal.test&path={path}"
    with urllib.request.urlopen(address) as answer:
        return json.load(answer)


def set_window(service: Service, seconds: int) -> None:
    """A visitor is current for so long; returns when the service knows it."""
    command(service.store, "site", "set", "portal.test", "--window", str(seconds))
    eventually(lambda: totals(service)["current"]["window_seconds"] == seconds)


def test_a_page_of_another_origin_is_counted_once_and_its_box_is_in_the_elements_language(
    service, portal, reader
):
    """1.055.568 in Vietnamese, 1,055,568 in English, and a wrong `lang` is no reason to show neither."""
    languages = ("en", "en_GB", "not a language!", "vn")
    others = "".join(f'<i lang="{tag}" data-statsvc="visits.total"></i>' for tag in languages)
    reader.page.goto(portal.put("/", script(service) + BOX + others))

    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    expect(reader.page.locator("#now")).to_have_text("1")
    written = ["1,055,568", "1,055,568", "1.055.568", "1.055.568"]
    expect(reader.page.locator("i")).to_have_text(written)
    reader.wait_for_events(["pageview"])
    counted = totals(service)
    assert counted["visits"]["total"] == BASE_VISITS + 1
    assert counted["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    assert reader.page.context.cookies() == []
    assert reader.page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert (reader.warnings, reader.errors) == ([], [])


def test_an_element_that_names_no_number_keeps_what_it_shows(service, portal, reader):
    """A moment is written as a local date and time; what isn't there, or isn't one value, stays."""
    names = ("visits.nonsense", "visits", "nonsense.deep.down", "constructor.name", "visits.total.length", "")
    kept = "".join(f'<i data-statsvc="{name}">giữ nguyên</i>' for name in names)
    moment = '<time data-statsvc="current.peak.at"></time>'
    reader.page.goto(portal.put("/", script(service) + BOX + moment + kept))

    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    expect(reader.page.locator("i")).to_have_text(["giữ nguyên"] * len(names))
    at = totals(service)["current"]["peak"]["at"]
    day = f"{at[8:10]}/{at[5:7]}/{at[:4]}"
    expect(reader.page.locator("time")).to_contain_text(day)
    assert reader.warnings == []


def test_a_page_shows_its_own_numbers(service, portal, reader):
    """`page.…` is of the page, also where its address is written with percent signs; a reload is a pageview
    more of the same visit.
    """
    names = ("page.visits", "page.pageviews", "page.current", "pageviews.today")
    elements = "".join(f'<i data-statsvc="{name}"></i>' for name in names)
    portal.put("/khac", script(service) + BOX)
    reader.page.goto(portal.origin + "/khac")
    expect(reader.page.locator("#now")).to_have_text("1")
    portal.put("/tin-t%E1%BB%A9c?id=1", script(service) + elements)
    reader.page.goto(portal.origin + "/tin-tức?id=1")
    expect(reader.page.locator("i")).to_have_text(["1", "1", "1", "2"])

    reader.page.reload()
    expect(reader.page.locator("i")).to_have_text(["1", "2", "1", "3"])
    assert totals(service)["visits"]["total"] == BASE_VISITS + 1


def test_a_page_with_a_very_long_address_is_counted(service, portal, reader):
    """A search page's query may be longer than the service takes; the path is what counts."""
    path = "/tim-kiem?q=" + "x" * 3000
    reader.page.goto(portal.put(path, script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    assert totals(service, "/tim-kiem")["pages"]["/tim-kiem"]["pageviews"] == 1


def test_without_a_domain_the_page_s_host_is_the_site(service, portal, reader):
    """`data-domain` may be left out."""
    tag = script(service).replace(' data-domain="portal.test"', "")
    reader.page.goto(portal.put("/", tag + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")


def test_the_script_twice_on_a_page_counts_once(service, portal, reader):
    """A template and a page in it may both have the line."""
    without_domain = script(service).replace(' data-domain="portal.test"', "")
    reader.page.goto(portal.put("/", script(service) * 2 + without_domain + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    reader.wait_for_events(["pageview"])
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1


def test_a_reader_who_stays_is_current_until_the_page_is_closed(service, portal, reader):
    """A visible page reports more often than the window is long, and its numbers are refreshed."""
    set_window(service, 3)
    reader.page.goto(portal.put("/", script(service) + BOX))
    # One a second at the earliest, so the pageview has left the window with the last of these.
    reader.wait_for_events(["pageview"] + ["engagement"] * 4)

    after = totals(service)
    assert after["current"]["visitors"] == 1
    assert after["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    command(service.store, "site", "baseline", "portal.test", "--visits", "2000000", "--reason", "recount")
    expect(reader.page.locator("#total")).to_have_text("2.000.001")

    reader.page.close()
    eventually(lambda: totals(service)["current"]["visitors"] == 0)


def test_when_the_service_stops_the_page_keeps_its_numbers(service, portal, reader):
    """However often it fails, there is one warning and no error; the numbers are the last ones known."""
    set_window(service, 3)
    reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    service.stop()
    known = len(reader.events)
    while len(reader.events) < known + 3:
        reader.page.wait_for_event("requestfailed")
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    assert len(reader.warnings) == 1
    assert reader.errors == []


def test_a_page_opened_while_the_service_is_down_is_counted_when_it_is_back(service, portal, reader):
    """The fallback stays meanwhile; the page's next report is its pageview."""
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    service.stop()
    # The script comes from the browser's cache.
    with reader.page.expect_event("requestfailed"):
        reader.page.goto(portal.put("/b", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("trước đây")
    assert len(reader.warnings) == 1

    with Service(service.store, "--listen", service.public) as back:
        reader.page.clock.run_for(132_000)
        expect(reader.page.locator("#total")).to_have_text("1.055.568")
        reader.wait_for_events(["pageview", "pageview", "pageview"])
        assert totals(back)["pageviews"]["total"] == BASE_PAGEVIEWS + 2
        reader.page.clock.run_for(132_000)
        reader.wait_for_events(["pageview", "pageview", "pageview", "engagement"])
    assert len(reader.warnings) == 1
    assert reader.errors == []


def test_a_refusal_is_told_to_the_editor_in_the_service_s_words(service, portal, reader):
    """A site that isn't registered: one warning that says so, and the fallback stays."""
    with reader.page.expect_console_message(lambda message: message.type == "warning"):
        reader.page.goto(portal.put("/", script(service, "nowhere.test") + BOX))
    expect(reader.page.locator("#total")).to_have_text("trước đây")
    assert "404" in reader.warnings[0]
    assert "nowhere.test" in reader.warnings[0]
    assert len(reader.warnings) == 1
    assert reader.errors == []


def test_a_hidden_page_reports_nothing_until_it_is_seen_again(service, portal, reader):
    """Not while hidden; at once when seen after more than an interval; not before its time otherwise."""
    # Headless Chromium shows every page at once, so being hidden is told to the page here.
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("#now")).to_have_text("1")
    reader.page.evaluate(HIDE, "hidden")
    reader.page.clock.run_for(3_600_000)
    reader.wait_for_events(["pageview"])

    reader.page.evaluate(HIDE, "visible")
    reader.page.clock.run_for(1)
    reader.wait_for_events(["pageview", "engagement"])

    reader.page.evaluate(HIDE, "hidden")
    reader.page.clock.run_for(60_000)
    reader.page.evaluate(HIDE, "visible")
    reader.page.clock.run_for(59_000)
    reader.wait_for_events(["pageview", "engagement"])
    reader.page.clock.run_for(14_000)
    reader.wait_for_events(["pageview", "engagement", "engagement"])


def test_going_back_to_a_page_the_browser_kept_is_a_pageview(service, portal, reader):
    """Restored from the back/forward cache it is not loaded again, and is read again all the same."""
    first = portal.put("/", script(service) + BOX + "<script>window.kept = true</script>")
    reader.page.goto(first)
    reader.page.evaluate("window.loadedOnce = true")
    expect(reader.page.locator("#now")).to_have_text("1")
    reader.page.goto(portal.put("/b", "<p>no counter here</p>"))
    reader.page.go_back(wait_until="commit")

    reader.wait_for_events(["pageview", "pageview"])
    assert reader.page.evaluate("window.loadedOnce") is True
    eventually(lambda: totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 2)
    assert totals(service)["visits"]["total"] == BASE_VISITS + 1


def test_a_prerendered_page_is_counted_when_it_is_opened(service, portal, reader):
    """The browser may load a page that nobody then opens."""
    # Chromium under automation doesn't prerender, so that state is told to the page here.
    reader.page.add_init_script(PRERENDERING)
    reader.page.goto(portal.put("/", script(service) + BOX))
    reader.wait_for_events([])
    expect(reader.page.locator("#total")).to_have_text("trước đây")

    reader.page.evaluate("document.dispatchEvent(new Event('prerenderingchange'))")
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    reader.wait_for_events(["pageview"])


def test_the_service_s_own_page_is_a_sample_portal_where_its_host_is_a_site(service, reader):
    """It counts itself, its Vietnamese box is filled, and its strict policy lets all of it pass."""
    command(service.store, "site", "add", "stats.test")
    counts = ("--visits", str(BASE_VISITS), "--pageviews", "7")
    command(service.store, "site", "baseline", "stats.test", *counts, "--reason", "the old counter")
    eventually(lambda: "1.055.567" in index(service, "stats.test")[1])

    reader.page.goto(origin(service))
    box = reader.page.get_by_role("complementary", name="Thống kê truy cập")
    expect(box.locator('[data-statsvc="visits.total"]')).to_have_text("1.055.568")
    expect(box.locator('[data-statsvc="current.visitors"]')).to_have_text("1")
    expect(box.locator('[data-statsvc="page.pageviews"]')).to_have_text("1")
    own, other = (
        reader.page.get_by_role("article").filter(has=reader.page.get_by_role("heading", name=name))
        for name in ("stats.test", "portal.test")
    )
    expect(own.locator('[data-statsvc="visits.total"]')).to_have_text("1,055,568")
    expect(other).to_contain_text("1,055,567")
    expect(other.locator("[data-statsvc]")).to_have_count(0)
    reader.wait_for_events(["pageview"])
    assert (reader.warnings, reader.errors) == ([], [])


def index(service: Service, host: str, **headers: str) -> tuple[http.client.HTTPMessage, str]:
    """The service's own page, as called by `host`."""
    connection = http.client.HTTPConnection(service.public)
    try:
        connection.request("GET", "/", headers={"Host": host, **headers})
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_elsewhere_it_shows_the_sites_and_the_lines_to_paste(service):
    """With the address by which it was called, escaped; and without script or sample."""
    headers, page = index(service, "stats.gov.vn:8443", **{"X-Forwarded-Proto": "https"})
    line = '<script defer src="https://stats.gov.vn:8443/counter.js" data-domain="portal.test"></script>'
    assert line.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;") in page
    assert "1,055,567" in page
    assert "<script" not in page
    assert "Thống kê truy cập" not in page
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"]
    _, page = index(service, '"><script>alert(1)</script>')
    assert "<script" not in page


def test_a_private_site_is_not_shown_and_without_sites_it_says_how_to_register_one(service):
    """Not even under the site's own host."""
    command(service.store, "site", "set", "portal.test", "--no-public")
    eventually(lambda: "statsvc site add hue.gov.vn" in index(service, "portal.test")[1])
    _, page = index(service, "portal.test")
    assert "data-domain" not in page
    assert "1.055.567" not in page
    assert "1,055,567" not in page
