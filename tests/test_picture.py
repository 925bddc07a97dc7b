"""The box as SVG: well-formed whatever it shows, and wide enough for what it shows."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from statsvc.languages import TITLE, labels, language, rows
from statsvc.picture import Box, Row, Style, Theme, draw, text_width
from tests.browser import chromium
from tests.golden import equals_golden

SVG = "{http://www.w3.org/2000/svg}"
NUMBERS = (1_055_568, 2_526, 6_812, 7_011, 40_120, 120_034, 990_120, 4_210_023, 3_011, 44)


def box(tag: str, names: tuple[str, ...] = ("visits", "current")) -> Box:
    """A portal's numbers in a language."""
    chosen = language(tag)
    numbers = dict(zip(rows(), NUMBERS, strict=True))
    filled = tuple(Row(name, chosen.labels[name], chosen.number(numbers[name])) for name in names)
    return Box(chosen.tag, chosen.direction, chosen.labels[TITLE], filled)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


@pytest.mark.parametrize("tag", ["vi", "ar"])
@pytest.mark.parametrize("style", Style)
def test_drawings_are_as_they_were(tag, style):
    """A change of the picture is seen in its file."""
    equals_golden(f"badge_{style}_{tag}.svg", draw(box(tag), style, Theme.AUTO))


@pytest.mark.parametrize("theme", Theme)
@pytest.mark.parametrize("style", Style)
def test_a_picture_says_all_it_shows(style, theme):
    """Labels and numbers are text, and the whole is one labelled image with a title."""
    root = ET.fromstring(draw(box("vi"), style, theme))
    assert root.get("role") == "img"
    spoken = "Thống kê truy cập: Tổng truy cập 1.055.568, Truy cập hiện tại 2.526"
    assert root.get("aria-label") == root.findtext(f"{SVG}title") == spoken
    shown = " ".join("".join(text.itertext()) for text in root.iter(f"{SVG}text"))
    for text in ("Tổng truy cập", "1.055.568", "Truy cập hiện tại", "2.526"):
        assert text in shown


def test_the_theme_is_the_readers_or_fixed():
    """`auto` asks the reader's system; the others don't."""
    drawn = {theme: draw(box("en"), Style.BOX, theme) for theme in Theme}
    assert "prefers-color-scheme:dark" in drawn[Theme.AUTO]
    assert "prefers-color-scheme" not in drawn[Theme.LIGHT] + drawn[Theme.DARK]
    assert drawn[Theme.LIGHT] != drawn[Theme.DARK]


any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)


@given(any_text, any_text, any_text, any_text, st.sampled_from(Style))
def test_whatever_it_shows_it_is_well_formed(lang, title, label, value, style):
    """Markup, control characters, half of a surrogate pair: all are text, and stay where text stands."""
    drawn = draw(Box(lang, "ltr", title, (Row("current", label, value),)), style, Theme.AUTO)
    root = ET.fromstring(drawn.encode())
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        *("svg", "title", "style", "rect", "text", "tspan", "path", "clipPath", "g")
    }


def test_markup_is_not_markup():
    """A label that is a script is read, not run."""
    hostile = "</text><script>alert(1)</script>\"'&amp;]]>"
    drawn = draw(Box("vi", "ltr", hostile, (Row("visits", hostile, hostile),)), Style.BOX, Theme.AUTO)
    assert "<script" not in drawn
    assert hostile in "".join(ET.fromstring(drawn).itertext())


MEASURED = """svg => {
    document.body.innerHTML = svg;
    const drawn = document.querySelector("svg");
    const box = (e) => { const { left, right } = e.getBoundingClientRect(); return [left, right]; };
    return [box(drawn), [...drawn.querySelectorAll("text")].map((text) => [
        text.textContent, text.getBoundingClientRect().top, ...box(text)
    ])];
}"""


@pytest.mark.parametrize("tag", labels())
@pytest.mark.parametrize("style", Style)
def test_nothing_overflows_or_overlaps(page, tag, style):
    """In a real browser's font, every text is inside the picture, and beside the other of its row."""
    names = rows() if style is Style.BOX else ("visits", "current", "peak")
    (left, right), texts = page.evaluate(MEASURED, draw(box(tag, names), style, Theme.LIGHT))
    lines: dict[int, list[tuple[float, float, str]]] = {}
    for text, top, begin, end in texts:
        assert left <= begin < end <= right, text
        lines.setdefault(round(top / 8), []).append((begin, end, text))
    for line in lines.values():
        line.sort()
        for (_, end, one), (begin, _, other) in pairwise(line):
            assert end <= begin, (one, other)


def test_wide_scripts_get_more_room():
    """Letters that stand above or below others take none; a Khmer letter below another neither."""
    assert text_width("Tổng", 14) == text_width("Tong", 14)
    assert text_width("总访问量", 14) == 4 * 14
    assert text_width("ส็", 14) == text_width("ส", 14)
    assert text_width("ស្ថ", 14) == text_width("ស", 14)
    assert text_width("방문", 14) == 2 * 14
    assert text_width("1", 14, bold=True) > text_width("1", 14)
