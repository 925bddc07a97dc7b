"""counter.js and the service's own page, as a real browser meets them."""

import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from statsvc.assets.build import ASSETS, BUNDLER
from tests.browser import (
    BASE_PAGEVIEWS,
    BASE_VISITS,
    Reader,
    add_site,
    new_store,
    origin,
    script,
    set_window,
    show_page,
    totals,
)
from tests.process import Service, command, eventually

BOX = """
    <b id="total" data-statsvc="visits.total">trước đây</b>
    <b id="now" data-statsvc="current.visitors">–</b>
"""
PRERENDERING = """
    Object.defineProperty(document, "prerendering", { value: true, configurable: true });
"""


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    with Reader(browser) as reader:
        yield reader


@pytest.fixture(scope="module")
def first_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_store(tmp_path_factory.mktemp("first") / "stats.db")


@pytest.fixture
def store(first_store: Path, tmp_path: Path) -> Path:
    store = tmp_path / "stats.db"
    store.write_bytes(first_store.read_bytes())
    return store


@pytest.fixture
def service(store: Path) -> Iterator[Service]:
    with Service(store) as service:
        yield service


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
    day = f"{int(at[8:10])}/{int(at[5:7])}/{at[:4]}"
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
    # Each after a second at the earliest, so the pageview has left the window with the last of these.
    reader.wait_for_events(["pageview"] + ["engagement"] * 3)

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
    while len(reader.events) < known + 2:
        reader.page.wait_for_event("requestfailed")
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    assert len(reader.warnings) == 1
    assert reader.errors == []


def test_a_page_opened_while_the_service_is_down_is_counted_when_it_is_back(service, portal, reader):
    """It shows the last numbers this browser saw meanwhile; the page's next report is its pageview."""
    reader.page.clock.install()
    with reader.page.expect_response(lambda response: "/api/totals" in response.url):
        reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    service.stop()
    # The script comes from the browser's cache.
    with reader.page.expect_event("requestfailed"):
        reader.page.goto(portal.put("/b", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    assert len(reader.warnings) == 1
    assert reader.page.evaluate("localStorage.length + sessionStorage.length") == 0
    with reader.page.expect_event("requestfailed", lambda request: "/hit.gif" in request.url):
        reader.page.clock.run_for(1_000)

    with Service(service.store, "--listen", service.public) as back:
        reader.page.clock.run_for(133_000)
        eventually(lambda: totals(back)["pageviews"]["total"] == BASE_PAGEVIEWS + 2)
        reader.wait_for_events(["pageview", "pageview", "pageview"])
        reader.page.clock.run_for(133_000)
        reader.wait_for_events(["pageview", "pageview", "pageview", "engagement"])
    assert len(reader.warnings) == 1
    assert reader.errors == []


def test_a_page_whose_answer_was_lost_is_counted_once(service, portal, reader):
    """The event was counted and its answer never came: the pixel and the next report say the same again."""
    reader.page.clock.install()
    lost: list[int] = []

    def lose(route: Route) -> None:
        if not lost:
            # Sent by Playwright itself, which doesn't know the browser's names of hosts.
            lost.append(route.fetch(url=f"http://{service.public}/api/event").status)
            route.abort()
        else:
            route.continue_()

    reader.page.route("**/api/event", lose)
    with reader.page.expect_console_message(lambda message: message.type == "warning"):
        reader.page.goto(portal.put("/", script(service) + BOX))
    assert lost == [202]
    with reader.page.expect_response(lambda response: "/hit.gif" in response.url):
        reader.page.clock.run_for(1_000)
    reader.page.clock.run_for(133_000)
    expect(reader.page.locator("#total")).to_have_text("1.055.568")
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    # What the page reports by itself is no repetition of the view.
    for _ in range(2):
        with reader.page.expect_response("**/api/event"):
            reader.page.evaluate("statsvc('Download')")
    counted = 'statsvc_events_total{audience="human",name="custom",site="portal.test"} 2\n'
    with urllib.request.urlopen(f"http://{service.operations}/metrics") as metrics:
        assert counted in metrics.read().decode()


def test_a_browser_that_a_program_drives_is_counted_among_the_bots(service, portal, reader):
    """It says so itself, whatever its User-Agent says; and sees the numbers all the same."""
    reader.page.add_init_script("Object.defineProperty(navigator, 'webdriver', { value: true })")
    with reader.page.expect_response("**/api/event") as answer:
        reader.page.goto(portal.put("/", script(service) + BOX))
    assert answer.value.headers["x-statsvc-dropped"] == "headless"
    expect(reader.page.locator("#total")).to_have_text("1.055.567")


def test_a_browser_that_never_saw_numbers_keeps_what_the_page_says(service, portal, reader):
    """The service is away from the start; the script comes from the cache."""
    reader.page.goto(portal.put("/", script(service)))
    reader.wait_for_events(["pageview"])
    service.stop()
    with reader.page.expect_event("requestfailed"):
        reader.page.goto(portal.put("/b", script(service) + BOX))
    expect(reader.page.locator("#total")).to_have_text("trước đây")
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
    show_page(reader.page, "hidden")
    reader.page.clock.run_for(3_600_000)
    reader.wait_for_events(["pageview"])

    show_page(reader.page, "visible")
    reader.page.clock.run_for(1)
    reader.wait_for_events(["pageview", "engagement"])

    show_page(reader.page, "hidden")
    reader.page.clock.run_for(60_000)
    show_page(reader.page, "visible")
    reader.page.clock.run_for(59_000)
    reader.wait_for_events(["pageview", "engagement"])
    reader.page.clock.run_for(15_000)
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


def test_each_route_of_a_single_page_application_is_a_page(service, portal, reader):
    """By path and query, forward and back; the same address again and a hash are no new page."""
    portal.put("/app", script(service) + BOX)
    reader.page.goto(portal.origin + "/app")
    expect(reader.page.locator("#now")).to_have_text("1")
    for route in ("/app/a", "/app/a", "/app/a#phan-2", "/app/a?trang=2"):
        reader.page.evaluate("route => history.pushState({}, '', route)", route)
    reader.page.evaluate("history.replaceState({}, '', '/app/b')")
    reader.page.evaluate("location.hash = 'cuoi'")
    reader.page.go_back()
    reader.page.go_back()

    addresses = ["/app", "/app/a", "/app/a", "/app/b", "/app/a"]
    eventually(lambda: totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + len(addresses))
    reader.wait_for_events(["pageview"] * len(addresses))
    assert [event["u"] for event in reader.bodies] == [portal.origin + path for path in addresses]
    assert totals(service, "/app/a")["pages"]["/app/a"]["pageviews"] == 3
    assert reader.errors == []


def test_a_page_counts_for_several_sites_in_one_request(service, portal, reader):
    """`data-domain` is a list; elements show the first site's numbers; a site is counted by one script only."""
    add_site(service, "xa.portal.test")
    both = script(service, "xa.portal.test, portal.test")
    portal.put("/", both + script(service) + BOX)
    reader.page.goto(portal.origin.replace("portal.test", "xa.portal.test") + "/")
    expect(reader.page.locator("#total")).to_have_text("1")
    reader.wait_for_events(["pageview"])
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    assert totals(service, site="xa.portal.test")["pageviews"]["total"] == 1


def test_two_scripts_count_for_a_site_each(service, portal, reader):
    """A commune's template and its province's, say; elements show the first one's numbers."""
    add_site(service, "xa.portal.test")
    scripts = script(service, "xa.portal.test") + script(service)
    portal.put("/", scripts + BOX + '<i data-statsvc-page="/"></i>')
    reader.page.goto(portal.origin.replace("portal.test", "xa.portal.test") + "/")
    expect(reader.page.locator("#total")).to_have_text("1")
    expect(reader.page.locator("i")).to_have_text("1")
    reader.wait_for_events(["pageview", "pageview"])
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    assert totals(service, site="xa.portal.test")["pageviews"]["total"] == 1


@pytest.mark.parametrize(
    ("canonical", "path"),
    [("http://portal.test:PORT/tin-tuc/1", "/tin-tuc/1"), ("http://elsewhere.test/tin-tuc/1", "/amp/1")],
)
def test_the_canonical_link_names_the_page_when_the_editor_asks(service, portal, reader, canonical, path):
    """`data-canonical`: one of another host is not believed."""
    canonical = canonical.replace("PORT", portal.origin.rpartition(":")[2])
    tag = script(service, attributes="data-canonical")
    reader.page.goto(portal.put("/amp/1", tag + BOX, head=f'<link rel="canonical" href="{canonical}">'))
    expect(reader.page.locator("#now")).to_have_text("1")
    assert totals(service, path)["pages"][path]["pageviews"] == 1


def test_where_a_policy_forbids_to_connect_the_pixel_counts(service, portal, reader):
    """Images pass it; the reader stays current too, and what the page says stays."""
    policy = f"default-src 'self'; script-src {origin(service)}; img-src {origin(service)} data:"
    reader.page.clock.install()
    reader.page.goto(portal.put("/a?b=1&c", script(service) + BOX, policy=policy))
    reader.page.clock.run_for(1_000)
    eventually(lambda: totals(service, "/a")["pages"]["/a"]["pageviews"] == 1)
    expect(reader.page.locator("#total")).to_have_text("trước đây")
    reader.page.clock.run_for(134_000)
    eventually(lambda: sum("engagement" in asked for asked in reader.asked) == 1)
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1
    assert reader.events == []
    assert len(reader.warnings) == 1


@pytest.mark.parametrize(
    ("signal", "attributes", "is_counted"),
    [
        ("navigator.globalPrivacyControl = true", "data-respect-dnt", False),
        ("navigator.doNotTrack = '1'", "data-respect-dnt", False),
        ("navigator.doNotTrack = '1'", "", True),
        ("navigator.nothing = 0", "data-respect-dnt", True),
    ],
)
def test_privacy_signals_are_honoured_where_the_editor_says_so(
    service, portal, reader, signal, attributes, is_counted
):
    """Such a reader isn't counted, and sees the numbers all the same."""
    name, _, value = signal.partition(" = ")
    name = name.removeprefix("navigator.")
    reader.page.add_init_script(f"Object.defineProperty(navigator, '{name}', {{ value: {value} }})")
    reader.page.goto(portal.put("/", script(service, attributes=attributes) + BOX))
    expect(reader.page.locator("#total")).to_have_text("1.055.568" if is_counted else "1.055.567")
    assert reader.events == (["pageview"] if is_counted else [])
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + is_counted
    assert reader.errors == []


def test_an_editor_can_leave_out_their_own_reading(service, portal, reader):
    """By a word in their own browser's storage, which the script only reads."""
    reader.page.goto(portal.put("/nothing", "<p>no counter here</p>"))
    reader.page.evaluate("localStorage.statsvc_ignore = 'true'")
    reader.page.goto(portal.put("/", script(service) + BOX + '<i data-statsvc="page.pageviews">?</i>'))
    expect(reader.page.locator("#total")).to_have_text("1.055.567")
    expect(reader.page.locator("i")).to_have_text("0")
    reader.page.evaluate("statsvc('Download')")
    assert reader.events == []
    assert reader.errors == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_local_addresses_are_counted_only_on_request(service, portal, browser, host):
    """`data-count-local`; without it numbers are shown, and nothing is counted."""
    add_site(service, "localhost", "--alias", "127.0.0.1")
    for attributes, counted in (("", 0), ("data-count-local", 1)):
        with Reader(browser) as reader:
            portal.put("/", script(service, "localhost", attributes) + BOX)
            reader.page.goto(portal.origin.replace("portal.test", host) + "/")
            expect(reader.page.locator("#total")).to_have_text(str(counted))
            assert totals(service, site="localhost")["pageviews"]["total"] == counted


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("", True),
        ("localhost", True),
        ("portal.localhost", True),
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("192.168.0.7", True),
        ("172.16.0.1", True),
        ("172.31.255.1", True),
        ("[::1]", True),
        ("[fd00::7]", True),
        ("may-chu", True),
        ("172.32.0.1", False),
        ("10.gov.vn", False),
        ("192.168.gov.vn", False),
        ("11.0.0.1", False),
        ("hue.gov.vn", False),
        ("localhost.vn", False),
    ],
)
def test_what_a_local_address_is(reader, host, is_local):
    """Files, names of one word, addresses of this machine and of private networks."""
    source = (ASSETS / "counter" / "privacy.js").read_text()
    pattern = source.partition("const LOCAL = ")[2].partition(";\n")[0]
    assert reader.page.evaluate(f"host => {pattern}.test(host)", host) is is_local


def test_a_page_sends_events_of_its_own(service, portal, reader):
    """`statsvc(name)`: counted by its name, and no pageview."""
    reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("#now")).to_have_text("1")
    reader.page.evaluate("statsvc('Download')")
    reader.wait_for_events(["pageview", "Download"])
    counted = 'statsvc_events_total{audience="human",name="custom",site="portal.test"} 1\n'
    eventually(lambda: counted in metrics(service))
    assert totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 1


TRACKERS = {
    "plausible-tracker@0.3.9": """
        import Plausible from "plausible-tracker";
        const plausible = Plausible({ domain: "portal.test", apiHost: SERVICE });
        plausible.enableAutoPageviews();
        window.track = (name) => plausible.trackEvent(name);
    """,
    "@plausible-analytics/tracker@0.4.6": """
        import { init, track } from "@plausible-analytics/tracker";
        init({ domain: "portal.test", endpoint: SERVICE + "/api/event" });
        window.track = (name) => track(name, {});
    """,
}


@pytest.mark.parametrize("package", TRACKERS)
def test_the_de_facto_standard_s_own_trackers_are_counted_right(service, portal, reader, tmp_path, package):
    """A pageview, a route, an event of the page's own, and engagement when the page is left."""
    bundle = bundled(tmp_path, package, TRACKERS[package].replace("SERVICE", json.dumps(origin(service))))
    reader.page.clock.install()
    reader.page.goto(portal.put("/a", f"<h1>Tin</h1><script>{bundle}</script>"))
    reader.page.evaluate("history.pushState({}, '', '/b')")
    reader.page.evaluate("track('Download')")
    eventually(lambda: totals(service)["pageviews"]["total"] == BASE_PAGEVIEWS + 2)
    assert totals(service, "/b")["pages"]["/b"] == {"visits": 1, "pageviews": 1, "current": 1}
    assert totals(service)["visits"]["total"] == BASE_VISITS + 1
    counted = 'statsvc_events_total{audience="human",name="custom",site="portal.test"} 1\n'
    eventually(lambda: counted in metrics(service))
    if package.startswith("@"):
        reader.page.clock.run_for(5_000)
        show_page(reader.page, "hidden")
        engaged = re.compile(r'events_total{audience="human",name="engagement",site="portal.test"} [1-9]')
        eventually(lambda: engaged.search(metrics(service)))
    assert reader.errors == []


def bundled(folder: Path, package: str, source: str) -> str:
    """A script that has the package in it."""
    if shutil.which("npm") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no npm on this machine")
    (folder / "package.json").write_text("{}")
    (folder / "page.js").write_text(source)
    run = partial(subprocess.run, cwd=folder, check=True, capture_output=True, text=True)
    run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", package])
    command = [
        "npx",
        "--yes",
        "--loglevel=error",
        BUNDLER,
        "--bundle",
        "--minify",
        "--format=iife",
        "page.js",
    ]
    return run(command).stdout.replace("</script", "<\\/script")


def metrics(service: Service) -> str:
    with urllib.request.urlopen(f"http://{service.operations}/metrics") as answer:
        return answer.read().decode()


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
