import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.calendar import local_hour
from statsvc.errors import InvalidEvent
from statsvc.model import DropReason, Event, Hit, Identity, Moment, Page, Sender, Site
from statsvc.rules import LONGEST_PATH, LONGEST_URL_BYTES, judge, normal_host, normal_path, page_of
from tests.facts import NOON_MS, SITE
from tests.process import CHROME

AT = Moment(NOON_MS, 10**11)


def judged(url: str, site: Site = SITE, user_agent: str = CHROME) -> Hit | DropReason:
    event = Event("pageview", url, ())
    hour = local_hour(site.zone, AT.wall_ms)
    return judge(event, page_of(url), site, Sender("203.0.113.7", user_agent), Identity(1), hour, AT)


def counted(url: str, site: Site = SITE, user_agent: str = CHROME) -> Hit:
    hit = judged(url, site, user_agent)
    assert isinstance(hit, Hit)
    return hit


@pytest.mark.parametrize(
    "url",
    ["https://hue.gov.vn/", "http://WWW.Hue.GOV.vn./", "https://a.b.hue.gov.vn:8443/", "https://portal.vn/"],
)
def test_the_domain_its_subdomains_and_aliases_are_the_site(url):
    """Pages of these hosts count."""
    site = Site(id=1, domain="hue.gov.vn", aliases=("portal.vn",))
    assert isinstance(judged(url, site), Hit)


@pytest.mark.parametrize(
    "url", ["https://nothue.gov.vn/", "https://hue.gov.vn.evil.test/", "https://gov.vn/"]
)
def test_other_hosts_are_dropped(url):
    """A page of another host is not this site's, however its name looks."""
    assert judged(url) is DropReason.HOSTNAME


def test_bots_are_hits_of_their_own_audience():
    """A bot counts, as a bot."""
    assert counted("https://hue.gov.vn/", user_agent="curl/8").bot
    assert not counted("https://hue.gov.vn/").bot


def test_an_apps_http_library_is_no_bot():
    """A phone app reports through its platform's library, whose name would tell a bot on the web."""
    app = Site(id=2, domain="hue-s")
    assert not counted("app://hue-s/home", app, "okhttp/4.12.0").bot


def test_an_app_that_a_program_drives_is_a_bot():
    """It says so itself."""
    event = Event("pageview", "app://hue.gov.vn/home", (), automated=True)
    hour = local_hour(SITE.zone, AT.wall_ms)
    hit = judge(event, page_of(event.url), SITE, Sender("203.0.113.7", "okhttp/4"), Identity(1), hour, AT)
    assert isinstance(hit, Hit)
    assert hit.dropped is DropReason.HEADLESS


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://hue.gov.vn", Page("https", "hue.gov.vn", "/")),
        ("https://hue.gov.vn/a/b/?q=1#f", Page("https", "hue.gov.vn", "/a/b")),
        ("https://hue.gov.vn/tin%20t%E1%BB%A9c", Page("https", "hue.gov.vn", "/tin tức")),
        ("https://hue.gov.vn/tin tức", Page("https", "hue.gov.vn", "/tin tức")),
        ("https://hue.gov.vn/%FF", Page("https", "hue.gov.vn", "/\ufffd")),
        ("https://hue.gov.vn/a%00b", Page("https", "hue.gov.vn", "/a\ufffdb")),
        ("https://người.vn/", Page("https", "xn--ngi-28a9548a.vn", "/")),
        ("app://hue-s/home", Page("app", "hue-s", "/home")),
    ],
)
def test_a_url_is_a_host_and_a_path(url, page):
    """Query and fragment are no part of a page; its path is decoded."""
    assert page_of(url) == page


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hue.gov.vn/a", "must begin with"),
        ("data:text/html,x", "must begin with"),
        ("file:///C:/a.html", "must begin with"),
        ("https:///a", "names no host"),
        ("https://[::1", "is not a URL"),
        ("https://hue.gov.vn/" + "ứ" * 700, f"at most {LONGEST_URL_BYTES:,}"),
    ],
)
def test_what_is_no_page_is_said(url, said):
    """A URL that can't be a page is refused with a reason."""
    with pytest.raises(InvalidEvent, match=said) as raised:
        page_of(url)
    assert list(raised.value.fields) == ["url"]


@given(st.text(max_size=2000))
def test_any_path_becomes_one_that_can_be_kept(path):
    """Whatever comes, the path is bounded, printable, and encodes."""
    normal = normal_path("/" + path)
    assert normal.startswith("/")
    assert len(normal) <= LONGEST_PATH
    assert "\x00" not in normal
    normal.encode()


@given(st.text(max_size=100))
def test_any_host_is_taken_without_a_fault(host):
    """What IDNA can't encode stays and matches nothing."""
    assert normal_host(normal_host(host)) == normal_host(host) or not host.isascii()


@given(st.from_regex(r"[a-z0-9.-]{0,9}[a-z0-9](/[a-zA-Z0-9/._~-]*)?([?#][!-~]*)?", fullmatch=True))
def test_a_url_says_the_same_with_its_port(rest):
    """Where one is given, the URL is taken apart the long way."""
    host = re.split("[/?#]", rest)[0]
    assert page_of(f"https://{rest}") == page_of(f"https://{host}:443{rest.removeprefix(host)}")
