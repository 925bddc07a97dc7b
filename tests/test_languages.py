"""Labels and numbers, compared with what a real browser writes."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page

from statsvc.languages import _NUMBERS, FALLBACK, TAG, labels, language, rows
from tests.browser import chromium

NUMBERS = (0, 7, 999, 1000, 9999, 10_000, 99_999, 100_000, 1_055_568, 4_210_023, 1_234_567_890)
NOT_IN_CHROMIUM = {"lo": "vi", "km": "en", "my": None, "ne": None}
"""Chromium leaves these languages' data out; those who write as another language are compared with that."""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with chromium() as browser:
        yield browser.new_page()


def test_every_language_writes_numbers_as_browsers_do(page):
    """Those with labels, and those that only write their numbers in their own way: as Intl.NumberFormat."""
    formatted = """([tags, numbers]) => tags.map((tag) => [
        Intl.NumberFormat.supportedLocalesOf(tag).length, numbers.map((n) => new Intl.NumberFormat(tag).format(n))
    ])"""
    tags = [*labels(), *_NUMBERS, "en-GB", "vi-VN", "fr-FR", "de-DE", "zh-Hant-TW", "ar-AE", "he", "ms", "tl"]
    asked = [NOT_IN_CHROMIUM.get(tag) or tag for tag in tags]
    compared = set()
    for tag, (supported, browser) in zip(tags, page.evaluate(formatted, [asked, NUMBERS]), strict=True):
        if supported:
            assert [language(tag).number(number) for number in NUMBERS] == browser, tag
            compared.add(tag)
    assert compared >= set(labels())


@pytest.mark.parametrize("tag", labels())
def test_every_language_has_every_label(tag):
    """No row of a box is without a label, in any language."""
    assert labels()[tag].keys() == labels()[FALLBACK].keys()
    assert all(text.strip() == text and text for text in labels()[tag].values())


def test_vietnamese_portals_read_what_they_always_have():
    """The words and the number of the box in the corner."""
    vietnamese = language("vi-VN")
    assert vietnamese.labels["title"] == "Thống kê truy cập"
    assert vietnamese.labels["visits"] == "Tổng truy cập"
    assert vietnamese.labels["current"] == "Truy cập hiện tại"
    assert vietnamese.number(1_055_568) == "1.055.568"


def test_another_language_has_english_labels_and_its_own_numbers():
    """A Portuguese page is not told nonsense; and only Arabic is written from the right."""
    portuguese = language("pt")
    assert (portuguese.tag, portuguese.labels["visits"]) == ("en", "Total visits")
    assert portuguese.number(1_055_568) == "1.055.568"
    assert {tag for tag in labels() if language(tag).direction == "rtl"} == {"ar"}
    assert language("fa").direction == "ltr"


def test_tags_are_read_as_cmss_write_them():
    """In any case, with a script, a region or an underscore."""
    for tag in ("VI", "vi_VN", "vi-Latn-VN"):
        assert language(tag).tag == "vi"
    assert language("pt_PT").number(10_000) == "10\N{NO-BREAK SPACE}000"
    assert language("zh-Hant-TW").tag == "zh"


def test_rows_have_the_names_of_the_box():
    """They are those of `<visit-counter show="…">`."""
    expected = "visits current today yesterday this-week this-month this-year pageviews peak page"
    assert rows() == tuple(expected.split())


@given(st.from_regex(TAG, fullmatch=True), st.integers(min_value=0, max_value=10**15))
def test_no_tag_loses_digits(tag, number):
    """Whatever the language, the digits of a number are all there, in order."""
    written = language(tag).number(number)
    assert "".join(str(int(c)) for c in written if c.isdigit()) == str(number)
