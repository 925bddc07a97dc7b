"""Nothing that a sender, an editor or an operator writes becomes markup, script, SQL or a line of the log."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from urllib.parse import urlencode
from xml.etree import ElementTree as ET

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statsvc.api.box import BoxRoutes
from statsvc.picture import Box, Row, Style, Theme, draw
from statsvc.tally import PAGEVIEW
from tests.browser import Reader, new_store, origin
from tests.hostile import DOMAIN, TEXTS, ask, request
from tests.load import Books
from tests.process import CHROME, Service, command

SCRIPT = "\"'><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">]]>&amp;"
SVG = "{http://www.w3.org/2000/svg}"
HOST = {b"Host": b"x", b"User-Agent": CHROME.encode()}
texts = st.sampled_from([*TEXTS, SCRIPT]) | st.text()


class Elements(HTMLParser):
    """The tags of a page, with the names of their attributes, in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


@given(texts, texts, texts, texts, st.sampled_from(Style), st.sampled_from(["ltr", "rtl"]))
@example(SCRIPT, SCRIPT, SCRIPT, SCRIPT, Style.BOX, "ltr")
def test_a_picture_has_no_element_but_its_own(lang, title, label, value, style, direction):
    """Whatever its texts: an XML parser reads it, and finds what it finds in a plain one."""

    def shape(*texts: str) -> list[tuple[str, list[str]]]:
        lang, title, label, value = texts
        svg = draw(Box(lang, direction, title, (Row("visits", label, value),)), style, Theme.AUTO)
        return [(element.tag, list(element.attrib)) for element in ET.fromstring(svg).iter()]

    assert shape(lang, title, label, value) == shape("vi", "a", "b", "c")
    assert {tag.removeprefix(SVG) for tag, _ in shape(lang, title, label, value)} <= {
        *("svg", "title", "style", "rect", "text", "path", "clipPath", "g")
    }


@given(texts, texts, texts, texts)
@example(SCRIPT, SCRIPT, SCRIPT, SCRIPT)
def test_the_frames_page_has_no_element_but_its_own(lang, title, label, value):
    """Whatever its texts, to an HTML parser."""
    routes = BoxRoutes(None, None)  # type: ignore[arg-type]

    def shape(*texts: str) -> list[tuple[str, tuple[str, ...]]]:
        lang, title, label, value = texts
        return Elements(
            routes._draw(Box(lang, "ltr", title, (Row("visits", label, value),)), Theme.AUTO)
        ).found

    assert shape(lang, title, label, value) == shape("vi", "a", "b", "c")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store = new_store(tmp_path_factory.mktemp("escaping") / "stats.db")
    command(store, "site", "add", DOMAIN)
    with Service(store) as service:
        yield service


@pytest.mark.parametrize("text", [SCRIPT, "'; DROP TABLE sites; --", 'https"><script>'])
def test_a_caller_can_put_nothing_into_the_page_of_all_sites(service, text):
    """By the headers it is made with."""

    def shape(host: str, scheme: str) -> list[tuple[str, tuple[str, ...]]]:
        headers = {b"Host": host.encode(), b"X-Forwarded-Proto": scheme.encode()}
        return Elements(ask(service.public, request(b"GET", b"/", headers)).body.decode()).found

    plain = shape("x", "https")
    assert shape(text, "https") == shape("x", text) == plain


def test_no_hostile_text_runs_in_a_browser(service, browser):
    """Paths, parameters and names that are scripts, on the pages and the picture opened by themselves: no script,
    no element, and nothing that their own policies had to refuse."""
    for name in (SCRIPT, PAGEVIEW):
        event = {"n": name, "u": f"https://portal.test/{SCRIPT}", "d": "portal.test", "p": {SCRIPT: SCRIPT}}
        sent = request(b"POST", b"/api/event", HOST, json.dumps(event).encode())
        assert ask(service.public, sent).status == 202
    query = {"site": "portal.test", "path": f"/{SCRIPT}", "show": "page,visits", "lang": "vi"}
    hostile = [
        {**query, "theme": SCRIPT},
        {**query, "lang": SCRIPT},
        {**query, "show": SCRIPT},
        {"site": SCRIPT},
    ]
    with Reader(browser) as reader:
        for call in ("badge.svg", "box", "api/totals"):
            for asked in (query, *hostile):
                reader.page.goto(f"{origin(service)}/{call}?{urlencode(asked)}")
                assert reader.page.title() != "run"
                assert reader.page.locator("img").count() == 0
        reader.page.goto(f"{origin(service)}/?{urlencode(query)}#{SCRIPT}")
        assert reader.page.title() == "statsvc"
        assert reader.errors == []


@pytest.mark.parametrize(
    "page", ["/", "/box?site=portal.test&lang=vi", "/box?site=portal.test&show=visits&theme=dark"]
)
def test_our_pages_work_under_their_policies(service, browser, page):
    """Nothing that is theirs is refused, and a script of another's is."""
    with Reader(browser) as reader:
        reader.page.goto(origin(service) + page)
        assert reader.page.locator("dd").count() > 0
        assert reader.errors == []
        reader.page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'document.title = \"run\"'}))"
        )
        assert reader.page.title() != "run"
        assert "Content Security Policy" in "".join(reader.errors)


def test_who_may_frame_what(service, browser, portal):
    """The box, any page; the page of all sites, no page."""
    with Reader(browser) as reader:
        for path, shown in (("/box?site=portal.test", True), ("/", False)):
            reader.page.goto(portal.put("/", f'<iframe src="{origin(service)}{path}"></iframe>'))
            assert (reader.page.frame_locator("iframe").locator("dd").count() > 0) == shown


def test_pages_of_other_origins_read_the_public_listener_and_not_the_other(service, browser, portal):
    """Totals, script and picture may be used anywhere; metrics and health by no page."""
    operations = f"http://stats.test:{service.operations.rpartition(':')[2]}"
    fetched = "url => fetch(url).then(answer => answer.text().then(text => text.length > 0), () => false)"
    loaded = """([tag, url]) => new Promise(done => document.body.append(Object.assign(
        document.createElement(tag), {src: url, onload: () => done(true), onerror: () => done(false)})))"""
    with Reader(browser) as reader:
        reader.page.goto(portal.put("/", "a page"))
        for url in (
            "/api/totals?site=portal.test",
            "/counter.js",
            "/badge.svg?site=portal.test",
            "/api/totals",
        ):
            assert reader.page.evaluate(fetched, origin(service) + url)
        assert reader.page.evaluate(loaded, ["img", f"{origin(service)}/badge.svg?site=portal.test"])
        assert reader.page.evaluate(loaded, ["script", f"{origin(service)}/counter.js"])
        for url in ("/metrics", "/-/healthy", "/-/ready", "/nothing"):
            assert not reader.page.evaluate(fetched, operations + url)
            assert not reader.page.evaluate(loaded, ["script", operations + url])


@pytest.mark.parametrize(
    "path", ["/", "/counter.js", "/api/totals", "/box?site=portal.test", "/hit.gif", "/nothing"]
)
def test_every_answer_of_the_public_listener_says_what_browsers_may_do_with_it(service, path):
    """Read it from anywhere, take it for what it says it is; and no version."""
    headers = ask(service.public, request(b"GET", path.encode(), HOST)).headers
    assert headers["server"] == "statsvc"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    assert headers["access-control-allow-origin"] == "*"
    if "text/html" in headers["content-type"]:
        assert "unsafe" not in headers["content-security-policy"]
        assert "camera=()" in headers["permissions-policy"]
        assert headers["referrer-policy"] in {"no-referrer", "same-origin"}


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/nothing"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_every_answer_of_the_operations_listener_is_for_no_page(service, path, method):
    """Neither read nor included by another origin; and no version."""
    headers = ask(service.operations, request(method, path.encode(), HOST)).headers
    assert headers["server"] == "statsvc"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert not any(name.startswith("access-control-") for name in headers)


def test_no_text_is_sql(tmp_path):
    """Names, paths, domains and reasons full of quotes are kept as they are, and all tables stay and add up."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", DOMAIN)
    sql = [
        "'; DROP TABLE sites; --",
        "' OR '1'='1",
        '"; DELETE FROM totals; --',
        "\\'; --",
        "%' UNION SELECT 1 --",
        "''",
    ]

    def tables() -> set[str]:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as database:
            return {name for (name,) in database.execute("SELECT name FROM sqlite_master")}

    before = tables()
    with Service(store) as service:

        @settings(max_examples=50, database=None)
        @given(*(st.sampled_from(sql) | st.text("'\";-%\\\0 ()", max_size=20) for _ in range(3)))
        def send(name: str, path: str, domain: str) -> None:
            event = {"n": name, "u": f"https://{DOMAIN}/{path}", "d": f"{DOMAIN},{domain}"}
            assert ask(
                service.public, request(b"POST", b"/api/event", HOST, json.dumps(event).encode())
            ).status in {202, 400}
            query = urlencode({"site": domain or "x", "path": f"/{path}", "token": name}).encode()
            assert ask(service.public, request(b"GET", b"/api/totals?" + query, HOST)).status == 404

        send()
        for text in sql:
            event = {"n": PAGEVIEW, "u": f"https://{DOMAIN}/{text}"}
            assert (
                ask(service.public, request(b"POST", b"/api/event", HOST, json.dumps(event).encode())).status
                == 202
            )
        assert service.stop() == 0
    command(store, "site", "baseline", DOMAIN, "--visits", "1", "--reason", sql[0])
    assert sql[0] in command(store, "site", "show", DOMAIN)
    assert tables() == before
    books = Books.read(store)
    assert books.disagreements() == []
    assert {f"/{text}".split("?")[0] for text in sql} <= set(books.pages)


def test_no_text_is_a_line_of_the_log():
    """Where a fault's error has a sender's text in it: one line, one JSON object, in plain ASCII, with the text."""
    texts = [*TEXTS, SCRIPT]
    program = (
        "import sys; from statsvc.log import LogObserver, configure; from statsvc.announcements import Fault;"
        " configure(); log = LogObserver();"
        " [log.notice(Fault.of(text, ValueError(text))) for text in eval(sys.stdin.read())]"
    )
    logged = subprocess.run(
        [sys.executable, "-c", program],
        input=ascii(texts).encode(),
        capture_output=True,
        timeout=30,
        check=True,
    ).stderr
    assert all(byte == 0x0A or 0x20 <= byte < 0x7F for byte in logged)
    errors = [json.loads(line)["error"] for line in logged.splitlines()]
    assert errors == [f"ValueError: {text}" for text in texts]
