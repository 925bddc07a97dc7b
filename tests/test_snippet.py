"""`statsvc snippet`: what it prints works where it is pasted."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from statsvc.model import Site
from statsvc.snippet_command import lines, script_integrity
from tests.browser import Portal, Reader
from tests.golden import equals_golden
from tests.process import Service, command, eventually

SITE = Site(id=1, domain="hue.gov.vn")


def pasted(text: str) -> list[str]:
    """The lines to paste, in order: script, box, noscript, iframe, pinned script."""
    return re.findall(r"^  (<.*>)$", text, re.MULTILINE)


def test_the_lines_are_as_they_were():
    """A change of what editors paste is seen in its file."""
    text = lines(SITE, "https://stats.hue.gov.vn", "vi").replace(script_integrity(), "sha384-HASH")
    equals_golden("snippet.txt", re.sub(r"statsvc \d+\.\d+\.\d+", "statsvc VERSION", text))


def test_help_is_what_is_documented():
    """Every option with its meaning."""
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", "snippet", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    equals_golden("help_snippet.txt", done.stdout, folded=True)


def test_without_a_language_nothing_fixes_it():
    """The box then follows the page, and the picture its reader."""
    assert "lang" not in "".join(pasted(lines(SITE, "https://stats.hue.gov.vn", None)))


def test_the_site_must_be_registered(tmp_path: Path):
    """A sentence otherwise, with those that are; an alias is as good as the domain."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn", "--alias", "thuathienhue.gov.vn")
    assert command(store, "snippet", "x.vn", status=1) == (
        "statsvc: no site x.vn is registered (registered: hue.gov.vn)\n"
    )
    assert 'data-domain="hue.gov.vn"' in command(store, "snippet", "thuathienhue.gov.vn")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("https://hue.gov.vn", "expected a domain"),
        ("hue.gov.vn --url stats.example", "expected an address such as https://stats.example"),
        ("hue.gov.vn --url http://[", "expected an address such as https://stats.example"),
        ("hue.gov.vn --url http://stats.example:99999", "expected an address such as https://stats.example"),
        (
            "hue.gov.vn --url http://stats.example/\x1b[31m",
            "expected an address such as https://stats.example",
        ),
        ("hue.gov.vn --lang tiếng", "expected a language such as vi"),
    ],
)
def test_bad_arguments_are_told(tmp_path: Path, arguments, said):
    """Status 2, with the value that came."""
    assert said in command(tmp_path / "stats.db", "snippet", *arguments.split(), status=2)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    store = tmp_path / "stats.db"
    command(store, "site", "add", "portal.test")
    with Service(store) as service:
        yield service


def snippet(service: Service) -> list[str]:
    """What the command prints, beside the running service."""
    url = f"http://stats.test:{service.public.rpartition(':')[2]}"
    return pasted(command(service.store, "snippet", "portal.test", "--url", url, "--lang", "vi"))


def pageviews(service: Service) -> int:
    shown = command(service.store, "site", "show", "portal.test")
    return int(re.findall(r"^people +\S+ +(\S+)", shown, re.MULTILINE)[0])


@pytest.mark.parametrize("which", ["script", "pinned"])
def test_the_script_lines_count(browser, service, which):
    """A page on another origin with the line is counted; also where the script is pinned by its hash."""
    script, box, _, _, pinned = snippet(service)
    with Portal() as portal, Reader(browser) as reader:
        reader.page.goto(portal.put("/", box + {"script": script, "pinned": pinned}[which]))
        eventually(lambda: pageviews(service) == 1)
        assert reader.errors == []


def test_a_script_that_is_not_the_pinned_one_does_not_run(browser, service):
    """That is what the hash is for."""
    pinned = snippet(service)[-1]
    with Portal() as portal, Reader(browser) as reader:
        reader.page.goto(portal.put("/", pinned.replace("sha384-", "sha384-AAAA")))
        assert any("integrity" in error for error in reader.errors)
    assert pageviews(service) == 0


def test_the_noscript_line_counts_and_shows(browser, service):
    """With scripts off, the picture is there and the page is counted."""
    noscript = snippet(service)[2]
    with Portal() as portal, Reader(browser, java_script_enabled=False) as reader:
        reader.page.goto(portal.put("/", noscript))
        image = reader.page.locator("img")
        expect(image).to_have_attribute("alt", "Thống kê truy cập")
        eventually(lambda: pageviews(service) == 1)
        assert image.evaluate("(e) => e.naturalWidth") >= 200


def test_the_frame_line_shows_and_counts_nothing(browser, service):
    """The whole box fits into the frame as it is printed."""
    iframe = snippet(service)[3]
    with Portal() as portal, Reader(browser) as reader:
        reader.page.goto(portal.put("/", iframe))
        box = reader.page.frame_locator("iframe").locator(".box")
        expect(box).to_contain_text("Truy cập hiện tại")
        assert box.evaluate("(e) => e.ownerDocument.documentElement.scrollHeight <= innerHeight")
    assert pageviews(service) == 0
