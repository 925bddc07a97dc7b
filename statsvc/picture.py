"""The counter box as SVG: a title and rows of labels and numbers, or one line of them.

A picture has to know how wide its text is before a browser chooses the font. Widths are estimated
from the scripts' letters, rather too wide than too narrow, so that no label runs into its number.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from html import escape
from typing import NamedTuple


class Style(StrEnum):
    BOX = "box"
    FLAT = "flat"


class Theme(StrEnum):
    """`auto` follows what the reader has chosen for their system."""

    LIGHT = "light"
    DARK = "dark"
    AUTO = "auto"


class Row(NamedTuple):
    name: str
    label: str
    value: str
    """As it is written: 1.055.568."""


class Box(NamedTuple):
    """What a box shows, in its language."""

    lang: str
    direction: str
    title: str
    rows: tuple[Row, ...]

    def spoken(self) -> str:
        """All of it as one text, for those who don't see it."""
        return f"{self.title}: " + ", ".join(f"{row.label} {row.value}" for row in self.rows)


CURRENT = "current"
"""The row with a dot."""
FONTS = (
    "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Helvetica Neue', Arial,"
    " 'Noto Sans Khmer', 'Khmer OS', 'Noto Sans Lao', 'Noto Sans Thai', sans-serif"
)


class _Colors(NamedTuple):
    """Those of the web component (assets/counter/box.css)."""

    text: str
    label: str
    background: str
    line: str
    accent: str
    on_accent: str
    under_label: str

    def rules(self) -> str:
        """Without variables, which programs that aren't browsers don't know."""
        return (
            f".t,.v{{fill:{self.text}}}.m{{fill:{self.label}}}.b{{fill:{self.background};stroke:{self.line}}}"
            f".l{{stroke:{self.line}}}.a{{fill:{self.accent}}}"
            f".n{{fill:{self.on_accent}}}.u{{fill:{self.under_label}}}.w{{fill:#fff}}"
        )


_LIGHT = _Colors("#1f2933", "#52606d", "#fff", "#d9dfe5", "#0f766e", "#fff", "#46515c")
_DARK = _Colors("#e8edf2", "#a8b3bf", "#1a212b", "#37424f", "#2dd4bf", "#042f2e", "#37424f")

# XML takes no other control characters, not even as references.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# Advances in em, of the widest of the usual fonts, by the beginning of the letters' Unicode names.
_ADVANCES = (
    (("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH"), 1.0),
    (("DIGIT", "ARABIC-INDIC", "EXTENDED ARABIC-INDIC", "BENGALI", "DEVANAGARI", "MYANMAR"), 0.64),
    (("KHMER",), 0.82),
    (("THAI", "LAO"), 0.7),
    (("ARABIC",), 0.6),
    (("CYRILLIC CAPITAL", "LATIN CAPITAL", "GREEK CAPITAL"), 0.75),
    (("CYRILLIC",), 0.63),
)
_OTHER_ADVANCE = 0.58
_NARROW_ADVANCES = dict.fromkeys("iljtfrI.,:;'’|!()[] \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}", 0.34)
_WIDE_ADVANCES = dict.fromkeys("mwMW@%", 0.92)
_BOLD = 1.08
_COENG = "\N{KHMER SIGN COENG}"
"""Puts the next Khmer letter below the last."""


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide `text` is in pixels, at a font size of `size` pixels."""
    ems, before = 0.0, ""
    for letter in unicodedata.normalize("NFC", text):
        if before != _COENG:
            ems += _advance(letter)
        before = letter
    return ems * size * (_BOLD if bold else 1)


def _advance(letter: str) -> float:
    if unicodedata.category(letter) in {"Mn", "Me", "Cf"}:
        return 0.0
    if not unicodedata.name(letter, "").startswith("HANGUL"):
        letter = unicodedata.normalize("NFD", letter)[0]  # without its accents
    if letter in _NARROW_ADVANCES:
        return _NARROW_ADVANCES[letter]
    if letter in _WIDE_ADVANCES:
        return _WIDE_ADVANCES[letter]
    name = unicodedata.name(letter, "")
    return next((ems for names, ems in _ADVANCES if name.startswith(names)), _OTHER_ADVANCE)


@lru_cache(maxsize=1024)  # the totals are new each second, mostly with the same numbers
def draw(box: Box, style: Style, theme: Theme) -> str:
    """An SVG document."""
    return _DRAWINGS[style](box, theme)


def _draw_box(box: Box, theme: Theme) -> str:
    padding, title_height, row_height, gap, dot = 13, 38, 27, 22, 18
    wide = [
        text_width(row.label, 14)
        + gap
        + text_width(row.value, 14, bold=True)
        + (dot if row.name == CURRENT else 0)
        for row in box.rows
    ]
    width = round(max([220 - 2 * padding, text_width(box.title, 14.5, bold=True), *wide])) + 2 * padding
    height = title_height + row_height * len(box.rows) + 7
    near, far = padding, width - padding
    if box.direction == "rtl":
        near, far = far, near
    parts = [
        f'<rect class="b" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="6"/>',
        f'<text class="t" x="{near}" y="24">{_escaped(box.title)}</text>',
        f'<rect class="a" x="{padding}" y="{title_height - 3}" width="{width - 2 * padding}" height="2"/>',
    ]
    for place, row in enumerate(box.rows):
        top = title_height + place * row_height
        if place:
            parts.append(f'<path class="l" d="M{padding} {top}.5H{width - padding}"/>')
        base = top + 19
        mark = '<tspan class="a d" dy="-1.5">●</tspan><tspan dy="1.5"> </tspan>'
        parts.append(f'<text class="m" x="{near}" y="{base}">{_escaped(row.label)}</text>')
        value = (mark if row.name == CURRENT else "") + _escaped(row.value)
        parts.append(f'<text class="v" x="{far}" y="{base}">{value}</text>')
    rules = (
        f"text{{font:14px {FONTS}}}.t{{font-size:14.5px;font-weight:600}}"
        ".v{font-weight:600;font-variant-numeric:tabular-nums;text-anchor:end}.d{font-size:9px}"
    )
    return _document(box, width, height, rules + _colors(theme), parts)


def _draw_flat(box: Box, theme: Theme) -> str:
    height, padding, size, base = 22, 7, 12, 15.5
    texts = [part for row in box.rows for part in (("u", "w", row.label), ("a", "n", row.value))]
    if box.direction == "rtl":
        texts.reverse()
    total, drawn = 0, []
    for ground, kind, text in texts:
        width = round(text_width(text, size, bold=kind == "n")) + 2 * padding
        middle = total + width / 2
        drawn.append(f'<path class="{ground}" d="M{total} 0h{width}v{height}h-{width}z"/>')
        drawn.append(f'<text class="{kind}" x="{middle:g}" y="{base}">{_escaped(text)}</text>')
        total += width
    clip = (
        f'<clipPath id="r"><rect width="{total}" height="{height}" rx="4"/></clipPath><g clip-path="url(#r)">'
    )
    rules = (
        f"text{{font:{size}px {FONTS};text-anchor:middle}}"
        ".n{font-weight:600;font-variant-numeric:tabular-nums}"
    )
    return _document(box, total, height, rules + _colors(theme), [clip, *drawn, "</g>"])


_DRAWINGS: dict[Style, Callable[[Box, Theme], str]] = {Style.BOX: _draw_box, Style.FLAT: _draw_flat}


def _document(box: Box, width: int, height: int, rules: str, parts: Sequence[str]) -> str:
    spoken = _escaped(box.spoken())
    direction = ' direction="rtl"' if box.direction == "rtl" else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" aria-label="{spoken}" xml:lang="{_escaped(box.lang)}"'
        f"{direction}><title>{spoken}</title><style>{rules}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def _colors(theme: Theme) -> str:
    match theme:
        case Theme.LIGHT:
            return _LIGHT.rules()
        case Theme.DARK:
            return _DARK.rules()
        case Theme.AUTO:
            return f"{_LIGHT.rules()}@media(prefers-color-scheme:dark){{{_DARK.rules()}}}"


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))
