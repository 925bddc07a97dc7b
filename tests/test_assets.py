"""The built counter.js is of these sources, within its budget, and what its build says."""

import gzip
import json
import os
import re
import shutil

import pytest

from statsvc.assets import build

MOST_BYTES = 3584
"""Tracker, box and thirteen languages, as a browser fetches them: 3.5 KiB with gzip -9."""


def test_the_built_file_is_of_these_sources():
    """Else run `python statsvc/assets/build.py`."""
    assert build.BUILT.read_text("utf-8").startswith(build.stamp())


def test_the_built_file_is_within_its_budget():
    """A reader on a slow line pays for every byte."""
    assert len(gzip.compress(build.BUILT.read_bytes(), 9, mtime=0)) <= MOST_BYTES


def test_the_build_gives_the_same_file():
    """Where there is Node to build it with."""
    if shutil.which("npx") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Node on this machine")
    assert build.build() == build.BUILT.read_text("utf-8")


def test_the_built_file_asks_for_nothing_but_its_service():
    """No address of anybody else, and nothing that a policy without unsafe-eval refuses."""
    text = build.BUILT.read_text("utf-8")
    assert re.findall(r"https?://[\w.]+", text) == []
    assert re.findall(r"\beval\(|new Function|innerHTML|document\.cookie|setItem", text) == []


def test_every_language_has_every_label():
    """In labels.json, which the pictures of the box are drawn from too."""
    labels = json.loads((build.ASSETS / "labels.json").read_text("utf-8"))
    assert set(labels) == {"vi", "en", "fr", "zh", "ja", "ko", "lo", "km", "th", "de", "es", "ru", "ar"}
    names = ["title", *build.NAMED[1:3], *build.PERIODS, *build.NAMED[3:]]
    for texts in labels.values():
        assert list(texts) == names
        assert all(text == text.strip() and "|" not in text for text in texts.values())
