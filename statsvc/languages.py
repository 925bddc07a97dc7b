"""How each language labels the box and writes a number: as browsers do, with the data they do it by.

The labels are those of `assets/labels.json`, which `counter.js` is built from too. Numbers are written
as `Intl.NumberFormat` writes them (Unicode CLDR), and so without the system's locales.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import msgspec

FALLBACK = "en"
TITLE = "title"
TAG = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*")
"""The form of a language tag: vi, vi-VN, zh-Hant-TW; also with the underscore that CMSs write."""


class _Numbers(NamedTuple):
    """How numbers are grouped, and with which digits."""

    separator: str = ","
    from_digits: int = 4
    """Numbers with fewer digits aren't grouped: Spanish writes 1055, and 10.550."""
    first_groups: int = 3
    """Digits of the groups before the last: 2 in India."""
    zero: str = "0"


_COMMA = _Numbers()
_DOT = _Numbers(".")
_DOT_FROM_5 = _DOT._replace(from_digits=5)
_SPACE = _Numbers("\N{NO-BREAK SPACE}")
_SPACE_FROM_5 = _SPACE._replace(from_digits=5)
_INDIAN = _COMMA._replace(first_groups=2)
_ARABIC = _Numbers("\N{ARABIC THOUSANDS SEPARATOR}", zero="\N{ARABIC-INDIC DIGIT ZERO}")

_NUMBERS = {
    tag: numbers
    for tags, numbers in (
        ("vi de pt nl tr id da el ro ca hr sr lo is mk gl eu es-ar es-cl es-co ar-dz ar-ma ar-tn", _DOT),
        ("es it sl", _DOT_FROM_5),
        ("fr", _Numbers("\N{NARROW NO-BREAK SPACE}")),
        ("ru uk cs sv nb nn no fi sk lt af de-at en-za fr-ca", _SPACE),
        ("pl hu bg lv et be hy ka sq pt-pt", _SPACE_FROM_5),
        ("de-ch de-li", _Numbers("'")),
        ("hi ta te gu en-in", _INDIAN),
        ("bn", _INDIAN._replace(zero="\N{BENGALI DIGIT ZERO}")),
        ("mr ne", _INDIAN._replace(zero="\N{DEVANAGARI DIGIT ZERO}")),
        ("my", _Numbers(zero="\N{MYANMAR DIGIT ZERO}")),
        ("fa", _ARABIC._replace(zero="\N{EXTENDED ARABIC-INDIC DIGIT ZERO}")),
        ("ar-eg ar-iq ar-jo ar-kw ar-lb ar-sa ar-sy", _ARABIC),
        ("es-mx es-us es-419 es-pe", _COMMA),
    )
    for tag in tags.split()
}
"""By language, or by language and region where that differs from the language. All others are as English."""


class Language(NamedTuple):
    """A language as a page asked for it."""

    tag: str
    """Of the labels: where ours has none of a language, they are in English."""
    labels: Mapping[str, str]
    """By the rows' names, and `title`."""
    numbers: _Numbers

    @property
    def direction(self) -> str:
        return "rtl" if self.tag == "ar" else "ltr"

    def number(self, number: int) -> str:
        """As a browser writes it in the language that was asked for."""
        separator, from_digits, first_groups, zero = self.numbers
        digits = str(number)
        if len(digits) >= from_digits:
            head, groups = digits[:-3], [digits[-3:]]
            while head:
                head, group = head[:-first_groups], head[-first_groups:]
                groups.insert(0, group)
            digits = separator.join(groups)
        return (
            digits if zero == "0" else "".join(chr(ord(zero) + int(d)) if d.isdigit() else d for d in digits)
        )


def language(tag: str) -> Language:
    """The language that `tag` names; for one that is not known, English labels and the numbers it writes."""
    subtags = tag.replace("_", "-").lower().split("-")
    region = next((part for part in subtags[1:] if re.fullmatch("[a-z]{2}|[0-9]{3}", part)), "")
    numbers = _NUMBERS.get(f"{subtags[0]}-{region}") or _NUMBERS.get(subtags[0], _COMMA)
    known = subtags[0] if subtags[0] in labels() else FALLBACK
    return Language(known, labels()[known], numbers)


@cache
def labels() -> dict[str, dict[str, str]]:
    """The labels of the box by language and row."""
    text = (files("statsvc") / "assets" / "labels.json").read_bytes()
    return msgspec.json.decode(text, type=dict[str, dict[str, str]])


def rows() -> tuple[str, ...]:
    """The names of the rows a box can have."""
    return tuple(name for name in labels()[FALLBACK] if name != TITLE)
