"""Builds `counter.js` from `counter/` and `labels.json`: `python statsvc/assets/build.py`.

Node's npx fetches two minifiers, whose versions stand below; nothing else is needed, and none of it to use
or test the result. The built file begins with the hash of what it was built from.
"""

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

ASSETS = Path(__file__).parent
SOURCES = ASSETS / "counter"
BUILT = ASSETS / "counter.js"

BUNDLER = "esbuild@0.28.2"
MINIFIER = "terser@5.51.2"
# Browsers since 2020. The box wants those since 2023, for its style sheet; without it the rest goes on.
TARGET = "es2021"
MINIFIER_OPTIONS = ("passes=3", "unsafe_arrows", "ecma=2021", "unsafe")

NAMED = ("title", "visits", "current", "pageviews", "peak", "page")
PERIODS = ("today", "yesterday", "this-week", "this-month", "this-year")
"""Browsers have these in every language but those that Chromium leaves out."""
LEFT_OUT = ("lo", "km")

SHIFTS = {"lo": 3667, "km": 5977, "th": 3539, "ru": 978, "ar": 1527}
"""A script's letters are kept as ASCII, so many code points lower: two or three bytes become one."""
LANGUAGES = ("ja", "zh", "th", "lo", "ko", "km", "vi", "fr", "de", "es", "en", "ar", "ru")
"""Order and shifts were found by trying: they are what gzip likes best."""


def stamp() -> str:
    """Of everything that the built file depends on."""
    paths = sorted((*SOURCES.iterdir(), ASSETS / "labels.json", Path(__file__)))
    content = b"".join(f"{path.name}\n".encode() + path.read_bytes() for path in paths)
    return f"// statsvc {sha256(content).hexdigest()[:6]}\n"


def build() -> str:
    """The text of counter.js."""
    style = _run(BUNDLER, "--minify", "--charset=utf8", str(SOURCES / "box.css")).strip()
    bundle = _run(
        BUNDLER,
        "--bundle",
        "--minify",
        "--charset=utf8",
        "--format=iife",
        f"--target={TARGET}",
        f"--define:LABELS={_json(_labels())}",
        f"--define:STYLE={_json(style)}",
        str(SOURCES / "main.js"),
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.js"
        path.write_text(bundle, "utf-8")
        script = _run(MINIFIER, str(path), "--compress", ",".join(MINIFIER_OPTIONS), "--mangle")
    return stamp() + script.strip() + "\n"


def _labels() -> dict[str, str]:
    """By language, "SHIFT|title|visits|…", with a small letter first, which the script makes large."""
    labels = json.loads((ASSETS / "labels.json").read_text("utf-8"))
    assert set(labels) == set(LANGUAGES)
    return {language: _texts(language, labels[language]) for language in LANGUAGES}


def _texts(language: str, labels: dict[str, str]) -> str:
    names = NAMED + PERIODS if language in LEFT_OUT else NAMED
    shift = SHIFTS.get(language, 0)
    texts = [labels[name][0].lower() + labels[name][1:] for name in names]
    if shift:
        texts = [_shifted(text, shift) for text in texts]
        assert all(text.isascii() and text.isprintable() and "|" not in text for text in texts), language
    return "|".join((str(shift or ""), *texts))


def _shifted(text: str, shift: int) -> str:
    return "".join(" " if letter == " " else chr(ord(letter) - shift) for letter in text)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _run(package: str, *arguments: str) -> str:
    """What a program from npm prints. Away from the tree, where npx would look for a package of ours."""
    with TemporaryDirectory() as folder:
        command = ("npx", "--yes", "--loglevel=error", package, *arguments)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{package} failed: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    BUILT.write_text(build(), "utf-8")
