"""<visit-counter> and the numbers of articles, as a real browser shows them."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Route, expect

from statsvc.assets.build import ASSETS
from tests.browser import (
    Reader,
    add_site,
    new_store,
    origin,
    script,
    show_page,
    totals,
)
from tests.process import CHROME, Service, eventually
from tests.redis_server import PATIENCE_SECONDS, RedisServer

LABELS = json.loads((ASSETS / "labels.json").read_text())
ROWS = tuple(name for name in LABELS["en"] if name != "title")
BOX = "<visit-counter></visit-counter>"
STREAMS = """
    window.streams = [];
    const Original = window.EventSource;
    window.EventSource = class extends Original {
        constructor(...given) { super(...given); window.streams.push(this); }
    };
"""
OPEN = "streams.filter(stream => stream.readyState === 1).length"


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    with Reader(browser) as reader:
        reader.page.add_init_script(STREAMS)
        yield reader


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_store(tmp_path_factory.mktemp("box") / "stats.db")


@pytest.fixture(scope="module")
def service(store: Path) -> Iterator[Service]:
    """One for all tests but those that stop it. Each test's reader is the same visitor, so there is one visit."""
    with Service(store) as service:
        yield service


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    with Service(new_store(tmp_path / "stats.db")) as service:
        yield service


def rows(box: Locator) -> dict[str, str]:
    """What the box says, by label."""
    return dict(
        zip(box.locator("dt").all_text_contents(), box.locator("dd").all_text_contents(), strict=True)
    )


def visit(service: Service, path: str = "/", visitor: str = "another") -> None:
    """Somebody else sees a page."""
    event = {"n": "pageview", "u": f"http://portal.test{path}", "d": "portal.test"}
    headers = {"User-Agent": f"{CHROME} {visitor}", "Content-Type": "text/plain"}
    request = urllib.request.Request(
        f"http://{service.public}/api/event", json.dumps(event).encode(), headers
    )
    urllib.request.urlopen(request).close()


def test_the_two_lines_make_a_box(service, portal, reader):
    """Total visits and current visitors, in the page's language, as a labelled group with terms and values."""
    reader.page.goto(portal.put("/", script(service) + BOX))
    box = reader.page.get_by_role("group", name="Thống kê truy cập")
    expect(box.get_by_role("definition")).to_have_text(["1.055.568", "1"])
    expect(box.get_by_role("term")).to_have_text(["Tổng truy cập", "Truy cập hiện tại"])
    tree = reader.page.context.new_cdp_session(reader.page).send("Accessibility.getFullAXTree")["nodes"]
    said = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]
    ]
    assert ("group", "Thống kê truy cập") in said
    texts = [name for role, name in said if role == "StaticText"]
    assert texts == ["Thống kê truy cập", "Tổng truy cập", "1.055.568", "Truy cập hiện tại", "1"]
    assert reader.page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert (reader.warnings, reader.errors) == ([], [])


def test_a_strict_policy_lets_all_of_it_pass(service, portal, reader):
    """Styles are no inline styles; script and numbers come from the service only."""
    stats = origin(service)
    policy = f"default-src 'self'; script-src {stats}; connect-src {stats}"
    reader.page.goto(portal.put("/", script(service) + BOX, policy=policy))
    box = reader.page.locator("visit-counter")
    expect(box.locator("dd").first).to_have_text("1.055.568")
    assert box.locator("section").evaluate("box => getComputedStyle(box).borderTopWidth") == "1px"
    eventually(lambda: reader.page.evaluate("performance.getEntriesByType('resource').length") >= 3)
    # The browser's complaint about the page's empty icon is not about us.
    assert [error for error in reader.errors if "data:," not in error] == []
    assert reader.warnings == []


def test_labels_are_those_of_every_language(service, portal, reader):
    """Each of the thirteen, with all rows; the browser's own words for the periods are those of labels.json."""
    boxes = "".join(
        f'<visit-counter lang="{lang}" show="{" ".join(ROWS)}"></visit-counter>' for lang in LABELS
    )
    reader.page.goto(portal.put("/", script(service) + boxes))
    for lang, labels in LABELS.items():
        box = reader.page.locator(f'visit-counter[lang="{lang}"]')
        expect(box.locator("p")).to_have_text(labels["title"])
        assert list(rows(box)) == [labels[row] for row in ROWS], lang
        expect(box.get_by_role("group")).to_have_attribute("lang", lang)
        direction = box.locator("section").evaluate("box => getComputedStyle(box).direction")
        assert direction == ("rtl" if lang == "ar" else "ltr")
    assert reader.errors == []


@pytest.mark.parametrize(
    ("lang", "title", "number"),
    [
        ("vi", "Thống kê truy cập", "1.055.568"),
        ("vi-VN", "Thống kê truy cập", "1.055.568"),
        ("vi_VN", "Thống kê truy cập", "1.055.568"),
        ("VI", "Thống kê truy cập", "1.055.568"),
        ("en", "Visitor statistics", "1,055,568"),
        ("fr", LABELS["fr"]["title"], "1\u202f055\u202f568"),
        ("lo", LABELS["lo"]["title"], "1.055.568"),
        ("km", LABELS["km"]["title"], "1,055,568"),
        ("zh-TW", LABELS["zh"]["title"], "1,055,568"),
        ("pt", "Visitor statistics", "1.055.568"),
        ("hi", "Visitor statistics", "10,55,568"),
        ("fa", "Visitor statistics", "۱٬۰۵۵٬۵۶۸"),
        ("vn", "Visitor statistics", "1,055,568"),
        ("", "Visitor statistics", "1,055,568"),
    ],
)
def test_a_page_s_language_labels_and_formats(service, portal, reader, lang, title, number):
    """Another language has English labels and its own numbers; what is none is the reader's language."""
    reader.page.goto(portal.put("/", script(service) + BOX, lang=lang))
    box = reader.page.locator("visit-counter")
    expect(box.locator("dd").first).to_have_text(number)
    expect(box.locator("p")).to_have_text(title)


def test_a_page_from_right_to_left(service, portal, reader):
    """Labels at the right, numbers at the left."""
    reader.page.goto(portal.put("/", script(service) + BOX, lang="ar"))
    box = reader.page.locator("visit-counter")
    expect(box.locator("dd").first).to_have_text("1,055,568")
    label, number = (box.locator(tag).first.evaluate(TEXT_LEFT) for tag in ("dt", "dd"))
    assert label > number


TEXT_LEFT = """element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return range.getBoundingClientRect().left;
}"""


def test_rows_and_labels_are_chosen_by_attribute(service, portal, reader):
    """In the order given; unknown rows are left out; labels may be the editor's own, which is text and no markup."""
    attributes = 'show="current, nonsense,visits,title,page" label-visits="<b>Lượt</b>" label-title="Bộ đếm"'
    reader.page.goto(portal.put("/x", script(service) + f"<visit-counter {attributes}></visit-counter>"))
    box = reader.page.get_by_role("group", name="Bộ đếm")
    expect(box.get_by_role("term")).to_have_text(["Truy cập hiện tại", "<b>Lượt</b>", "Trang này"])
    expect(box.get_by_role("definition")).to_have_text(["1", "1.055.568", "1"])


def test_each_row_shows_its_number(service, portal, reader):
    """As GET /api/totals has it."""
    reader.page.goto(
        portal.put("/so", script(service) + f'<visit-counter show="{",".join(ROWS)}" lang="en">')
    )
    box = reader.page.locator("visit-counter")
    expect(box.locator("dd").first).to_have_text("1,055,568")
    now = totals(service, "/so")
    visits = now["visits"]
    numbers = {
        "visits": visits["total"],
        "current": now["current"]["visitors"],
        **{row: visits[row.replace("-", "_")] for row in ROWS if row.replace("-", "_") in visits},
        "pageviews": now["pageviews"]["total"],
        "peak": now["current"]["peak"]["visitors"],
        "page": now["pages"]["/so"]["pageviews"],
    }
    assert rows(box) == {LABELS["en"][row]: f"{numbers[row]:,}" for row in ROWS}


def test_a_box_of_another_site_shows_that_site_s_numbers(service, portal, reader):
    """`site`; with what it holds until then, and never the page's own numbers."""
    add_site(service, "second.test")
    elements = BOX + '<visit-counter site="second.test" id="second"></visit-counter>'
    reader.page.goto(portal.put("/", script(service) + elements))
    expect(reader.page.locator("visit-counter:not([site]) dd").first).to_have_text("1.055.568")
    expect(reader.page.locator("#second dd").first).to_have_text("0")


def test_a_box_that_comes_later_or_changes_is_right_too(service, portal, reader):
    """Put in by a script, and given another language or other rows: with the next numbers at the latest."""
    reader.page.goto(portal.put("/", script(service) + BOX))
    first = reader.page.locator("visit-counter").first
    expect(first.locator("dd").first).to_have_text("1.055.568")
    reader.page.evaluate("document.body.append(document.createElement('visit-counter'))")
    expect(reader.page.locator("visit-counter").last.locator("dd").first).to_have_text("1.055.568")
    reader.page.evaluate("document.querySelector('visit-counter').lang = 'en'")
    reader.page.evaluate("document.querySelector('visit-counter').setAttribute('show', 'visits')")
    reader.page.evaluate("history.pushState({}, '', '/khac')")
    expect(first.locator("dd")).to_have_text(["1,055,568"])


def test_the_script_twice_makes_one_box_and_one_pageview(service, portal, reader):
    """A template and a page in it may both have the line."""
    before = totals(service)["pageviews"]["total"]
    reader.page.goto(portal.put("/", script(service) * 2 + BOX))
    expect(reader.page.locator("visit-counter dd").first).to_have_text("1.055.568")
    reader.wait_for_events(["pageview"])
    assert totals(service)["pageviews"]["total"] == before + 1
    assert reader.errors == []


def test_the_box_follows_the_numbers_while_it_is_seen(service, portal, reader):
    """Another visitor arrives, and the box says so without a report of its own; hidden, it hangs up."""
    reader.page.goto(portal.put("/", script(service) + BOX))
    current = reader.page.locator("visit-counter dd").nth(1)
    expect(current).to_have_text("1")
    reader.page.wait_for_function(f"{OPEN} === 1")
    visit(service, visitor="live")
    expect(current).to_have_text("2")
    expect(reader.page.locator("visit-counter dd").first).to_have_text("1.055.569")
    reader.wait_for_events(["pageview"])

    show_page(reader.page, "hidden")
    assert reader.page.evaluate(OPEN) == 0
    show_page(reader.page, "visible")
    reader.page.wait_for_function(f"{OPEN} === 1")
    assert reader.page.evaluate("streams.length") == 2
    assert reader.errors == []


def test_a_page_without_numbers_opens_no_stream(service, portal, reader):
    """Nor asks for totals: it has nothing to show them in."""
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(service)))
    reader.wait_for_events(["pageview"])
    reader.page.clock.run_for(30_000)
    assert reader.page.evaluate("streams.length") == 0
    assert [asked for asked in reader.asked if "totals" in asked] == []


def test_a_lost_stream_is_taken_up_again_with_growing_patience(own_service, portal, reader):
    """2 seconds and more, then twice as long, each time at random; the numbers stay meanwhile."""
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(own_service) + BOX))
    total = reader.page.locator("visit-counter dd").first
    expect(total).to_have_text("1.055.568")
    reader.page.clock.run_for(1_000)
    reader.page.wait_for_function(f"{OPEN} === 1")
    own_service.stop()
    reader.page.wait_for_function("streams.every(stream => stream.readyState === 2)")
    waits = []
    for streams in (2, 3, 4):
        seconds = 0
        while reader.page.evaluate("streams.length") < streams:
            reader.page.clock.run_for(1_000)
            seconds += 1
        reader.page.wait_for_function("streams.every(stream => stream.readyState === 2)")
        waits.append(seconds)
    assert all(2 * 2**i <= wait <= 4 * 2**i + 1 for i, wait in enumerate(waits)), waits
    expect(total).to_have_text("1.055.568")

    with Service(own_service.store, "--listen", own_service.public) as back:
        reader.page.clock.run_for(33_000)
        reader.page.wait_for_function(f"{OPEN} === 1")
        visit(back)
        expect(total).to_have_text("1.055.569")
    assert len(reader.warnings) <= 1
    assert reader.errors == []


def test_without_event_source_the_answers_keep_the_box_right(service, portal, reader):
    """An old browser, or one that forbids it."""
    reader.page.add_init_script("delete window.EventSource")
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(service) + BOX))
    total = reader.page.locator("visit-counter dd").first
    expect(total).to_have_text(re.compile(r"1\.055\.5.."))
    visit(service, visitor="unseen")
    reader.page.clock.run_for(134_000)
    now = totals(service)["visits"]["total"]
    expect(total).to_have_text(f"{now:,}".replace(",", "."))
    assert reader.errors == []


def test_a_page_opened_while_the_service_is_away_has_the_last_numbers(own_service, portal, reader):
    """The browser's own cache has them, and nothing else is stored; there is one warning and no error."""
    page = portal.put("/", script(own_service) + BOX)
    with reader.page.expect_response(lambda response: "/api/totals" in response.url):
        reader.page.goto(page)
    values = reader.page.locator("visit-counter dd")
    expect(values).to_have_text(["1.055.568", "1"])
    own_service.stop()
    for _ in range(2):
        reader.warnings.clear()
        reader.page.reload()
        expect(values).to_have_text(["1.055.568", "1"])
        eventually(lambda: len(reader.warnings) == 1)
    assert reader.errors == []


def test_what_the_page_put_into_the_box_is_shown_until_there_are_numbers(own_service, portal, reader):
    """Text or elements; without either the box waits with dashes, and never says 0."""
    filled = "<visit-counter id=filled><b>1.055.000 lượt</b></visit-counter>"
    reader.page.goto(portal.put("/first", script(own_service)))
    reader.wait_for_events(["pageview"])
    own_service.stop()
    with reader.page.expect_event("requestfailed"):
        reader.page.goto(portal.put("/", script(own_service) + filled + BOX))
    expect(reader.page.locator("b")).to_be_visible()
    expect(reader.page.locator("#filled section")).to_be_hidden()
    expect(reader.page.locator("visit-counter").last.locator("dd")).to_have_text(["–", "–"])

    with Service(own_service.store, "--listen", own_service.public):
        reader.page.reload()
        expect(reader.page.locator("#filled dd").first).to_have_text("1.055.568")
        expect(reader.page.locator("#filled section")).to_be_visible()
        expect(reader.page.locator("b")).to_be_hidden()


def test_a_browser_too_old_for_the_box_is_counted_all_the_same(service, portal, reader):
    """Such as Safari before 16.4: numbers are filled in, and what the page put into the box stays."""
    reader.page.add_init_script(
        "window.CSSStyleSheet = function () { throw TypeError('Illegal constructor') }"
    )
    elements = '<visit-counter><b>1.055.000</b></visit-counter><i data-statsvc="visits.total"></i>'
    elements += articles(["/bai/1"]).replace("<i", "<u").replace("</i>", "</u>")
    reader.page.goto(portal.put("/", script(service) + elements))
    expect(reader.page.locator("i")).to_have_text(re.compile(r"1\.055\.5.."))
    expect(reader.page.locator("u")).to_have_text("0")
    expect(reader.page.locator("b")).to_be_visible()
    assert len(reader.errors) == 1


SHIFTS = """
    window.shifts = 0;
    new PerformanceObserver(list => list.getEntries().forEach(entry => { window.shifts += entry.value; }))
        .observe({ type: "layout-shift", buffered: true });
"""
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.parametrize("inside", ["", "<b>1.055.000</b>", "<p>Nhiều<br>dòng<br>chữ<br>đứng<br>đây</p>"])
@pytest.mark.parametrize("width", [160, 300])
def test_nothing_moves_when_the_numbers_arrive(service, portal, reader, inside, width):
    """Their room is kept, whatever the box holds until then."""
    held: list[Route] = []
    is_held = True
    reader.page.route("**/api/**", lambda route: held.append(route) if is_held else route.continue_())
    element = f'<visit-counter show="visits,current,pageviews,this-year">{inside}</visit-counter>'
    place = f"<div style='width:{width}px'>{element}<p>Tin tức</p></div><p>Chân trang</p>"
    reader.page.goto(portal.put("/", script(service) + place))
    reader.page.wait_for_function("document.querySelector('visit-counter').shadowRoot")
    reader.page.evaluate(FRAMES)
    reader.page.evaluate(SHIFTS.replace("buffered: true", "buffered: false"))
    heights = [reader.page.locator("visit-counter").bounding_box()]
    is_held = False
    for route in held:
        route.continue_()
    expect(reader.page.locator("visit-counter dd").nth(2)).to_have_text(re.compile(r"3\.000\.0.."))
    reader.page.evaluate(FRAMES)
    heights.append(reader.page.locator("visit-counter").bounding_box())
    assert heights[0] == heights[1]
    assert reader.page.evaluate("shifts") == 0


@pytest.mark.parametrize("width", [160, 320])
def test_the_box_fits_a_sidebar_and_a_phone(service, portal, browser, width):
    """Every language, every row: nothing runs out of the box, and the box not out of its column."""
    boxes = "".join(
        f"<div style='width:160px'><visit-counter lang={lang} show='{','.join(ROWS)}'></visit-counter></div>"
        for lang in LABELS
    )
    with Reader(browser, viewport={"width": width, "height": 640}) as reader:
        reader.page.goto(portal.put("/", f"<style>body {{ margin: 0 }}</style>{script(service)}{boxes}"))
        expect(reader.page.locator("visit-counter dd").first).to_have_text(re.compile(r"1\.055\.5.."))
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        overflowing = """boxes => boxes.filter(box => {
            const frame = box.shadowRoot.querySelector("section");
            const parts = [...frame.querySelectorAll("*")];
            return frame.offsetWidth > 160 || parts.some(part => part.scrollWidth > part.clientWidth);
        }).map(box => box.lang)"""
        assert reader.page.locator("visit-counter").evaluate_all(overflowing) == []


CONTRAST = """box => {
    const canvas = document.createElement("canvas").getContext("2d");
    const rgb = color => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
        return .2126 * x + .7152 * y + .0722 * z;
    };
    const root = box.shadowRoot;
    const back = rgb(getComputedStyle(root.querySelector("section")).backgroundColor);
    return ["p", "dt", "dd"].map(tag => {
        const style = getComputedStyle(root.querySelector(tag));
        const front = rgb(style.color).map((c, i) => c * style.opacity + back[i] * (1 - style.opacity));
        const [low, high] = [light(front), light(back)].sort((a, b) => a - b);
        return (high + .05) / (low + .05);
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa_in_both_themes(service, portal, browser, scheme):
    """What the reader chose for their system, and `theme` over it: text has 4.5 to 1 at least."""
    with Reader(browser, color_scheme=scheme) as reader:
        other = {"light": "dark", "dark": "light"}[scheme]
        themed = f"<visit-counter theme={other}></visit-counter>"
        reader.page.goto(portal.put("/", script(service) + BOX + themed))
        backs = []
        for box in reader.page.locator("visit-counter").all():
            expect(box.locator("dd").first).to_have_text(re.compile(r"1\.055\.5.."))
            assert all(ratio >= 4.5 for ratio in box.evaluate(CONTRAST))
            backs.append(background(box))
        assert backs[0] != backs[1]
        assert (backs[0] == "rgb(255, 255, 255)") is (scheme == "light")


def background(box: Locator) -> str:
    color: str = box.locator("section").evaluate("box => getComputedStyle(box).backgroundColor")
    return color


def test_a_page_themes_the_box(service, portal, reader):
    """By custom properties, on the element or around it, and by parts."""
    style = """<style>
        body { --statsvc-background: rgb(1, 2, 3) }
        visit-counter { --statsvc-color: rgb(4, 5, 6) }
        ::part(title) { color: rgb(7, 8, 9) }
        ::part(current) { display: none }
        .gone { display: none }
    </style>"""
    hidden = "<visit-counter id=hidden hidden></visit-counter>"
    reader.page.goto(portal.put("/", style + script(service) + BOX + hidden))
    box = reader.page.locator("visit-counter").first
    expect(box.locator("dd").first).to_be_visible()
    assert background(box) == "rgb(1, 2, 3)"
    assert color(box.locator("dd").first) == "rgb(4, 5, 6)"
    assert color(box.locator("p")) == "rgb(7, 8, 9)"
    expect(box.locator("dd").nth(1)).to_be_hidden()
    expect(reader.page.locator("#hidden")).to_be_hidden()


def color(element: Locator) -> str:
    computed: str = element.evaluate("element => getComputedStyle(element).color")
    return computed


def test_a_box_restored_from_the_browser_s_cache_is_counted_and_live(service, portal, reader):
    """Going back shows the kept page: a pageview more, and its stream is opened anew."""
    reader.page.goto(portal.put("/", script(service) + BOX))
    reader.page.wait_for_function(f"{OPEN} === 1")
    reader.page.evaluate("window.loadedOnce = true")
    reader.page.goto(portal.put("/b", "<p>no counter here</p>"))
    reader.page.go_back(wait_until="commit")
    reader.wait_for_events(["pageview", "pageview"])
    assert reader.page.evaluate("window.loadedOnce") is True
    reader.page.wait_for_function(f"{OPEN} === 1")


def articles(paths: list[str], value: str = "") -> str:
    attribute = f'data-statsvc-page-value="{value}"' if value else ""
    return "".join(f'<i data-statsvc-page="{path}" {attribute}>–</i>' for path in paths)


def asked_for_pages(reader: Reader) -> list[str]:
    return [asked for asked in reader.asked if "path=" in asked]


def test_a_list_s_article_counts_come_in_one_request(service, portal, reader):
    """Pageviews, or what the element says; a page nobody has seen has 0."""
    for path in ("/tin-tuc/1", "/tin-tuc/1", "/tin-tức & sự kiện"):
        visit(service, path)
    paths = ["/tin-tuc/1", "/tin-tức &amp; sự kiện", "/nobody", *(f"/tin-tuc/{i}" for i in range(2, 99))]
    elements = articles(paths) + articles(["/tin-tuc/1"], "visits") + articles(["/tin-tuc/1"], "nonsense")
    reader.page.goto(
        portal.put("/", script(service) + elements.replace("<i", "<b", 1).replace("</i>", "</b>", 1))
    )
    expect(reader.page.locator("b")).to_have_text("2")
    texts = reader.page.locator("i").all_text_contents()
    assert texts[:2] == ["1", "0"]
    assert len(asked_for_pages(reader)) == 2
    assert reader.errors == []


def test_exactly_a_hundred_article_counts_are_one_request(service, portal, reader):
    """The service answers as many at once."""
    reader.page.goto(portal.put("/", script(service) + articles([f"/bai-viet/{i}" for i in range(100)])))
    expect(reader.page.locator("i").last).to_have_text("0")
    assert len(asked_for_pages(reader)) == 1


def test_a_route_s_article_counts_are_filled_when_the_route_is_there(service, portal, reader):
    """A single-page application draws its list some time after it has changed the address."""
    reader.page.clock.install()
    reader.page.goto(portal.put("/", script(service) + BOX))
    expect(reader.page.locator("dd").first).to_have_text(re.compile(r"1\.055\.5.."))
    reader.page.evaluate("history.pushState({}, '', '/danh-sach')")
    reader.wait_for_events(["pageview", "pageview"])
    reader.page.evaluate("list => document.body.insertAdjacentHTML('beforeend', list)", articles(["/bai/1"]))
    reader.page.clock.run_for(1_000)
    expect(reader.page.locator("i")).to_have_text("0")


def test_article_counts_survive_the_service_s_absence(own_service, portal, reader):
    """The last ones this browser saw, or what the page says."""
    visit(own_service, "/tin-tuc/1")
    page = portal.put("/", script(own_service) + articles(["/tin-tuc/1"]))
    reader.page.goto(page)
    expect(reader.page.locator("i")).to_have_text("1")
    own_service.stop()
    reader.page.reload()
    expect(reader.page.locator("i")).to_have_text("1")
    assert reader.errors == []


def test_who_is_current_is_a_dash_while_it_is_not_known(tmp_path, portal, reader):
    """Redis is gone: never 0, nor null; when it is back the number comes by itself, and stays when it goes."""
    with (
        RedisServer() as redis,
        Service(new_store(tmp_path / "stats.db"), "--presence", redis.url) as service,
    ):
        redis.kill()
        reader.page.goto(portal.put("/", script(service) + BOX))
        values = reader.page.locator("visit-counter dd")
        expect(values).to_have_text(["1.055.568", "–"])
        redis.start()
        expect(values).to_have_text(["1.055.568", "1"], timeout=PATIENCE_SECONDS * 1000)
        redis.kill()
        eventually(lambda: totals(service)["current"]["visitors"] is None)
        expect(values).to_have_text(["1.055.568", "1"])
