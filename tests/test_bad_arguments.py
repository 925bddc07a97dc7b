"""The command line, given what makes no sense: a sentence and an exit status, never a traceback."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from statsvc.cli import main
from tests.hostile import DOMAIN, TEXTS, URLS
from tests.process import command

NOWHERE = "http://127.0.0.1:1"
# An argument of a process can hold no NUL; bytes that are no UTF-8 come as lone surrogates.
words = (st.sampled_from([*TEXTS, *URLS]) | st.text(max_size=30)).map(
    lambda text: "".join(letter for letter in text if letter and not "\ud800" <= letter < "\udc80")
)
numbers = st.sampled_from(
    ["-1", "0", "1", "1e9", "nan", "inf", "-inf", "9" * 5000, "\u0663", "1.055.568", "1_0", "+1"]
)
domains = st.just(DOMAIN) | words
STORES = [
    "",
    "sqlite:///",
    "sqlite:////dev/null",
    "sqlite:////proc/nowhere/x.db",
    "sqlite:////",
    "sqlite:///a%00b",
]
STORES += [
    "sqlite:////proc/%ff",
    "postgresql://x",
    "sqlite://host/x",
    "sqlite:///" + "a" * 5000,
    "sqlite:////proc/\udcff",
    "x",
]

OPTIONS = {
    "site add": (domains, ["--time-zone", "--alias", "--window", "--visit-gap", "--no-public", "--exist-ok"]),
    "site set": (domains, ["--time-zone", "--alias", "--no-alias", "--window", "--visit-gap", "--public"]),
    "site list": (None, []),
    "site show": (domains, []),
    "site remove": (words, []),
    "site baseline": (domains, ["--visits", "--pageviews", "--reason", "--undo"]),
    "site token": (domains, ["--note", "--revoke"]),
    "snippet": (domains, ["--url", "--lang"]),
    "backup": (words, []),
    "check": (None, []),
    # What would start or play for long if it were right has something in it that can't be.
    "serve": (
        None,
        ["--site", "--time-zone", "--trusted-proxy", "--keep-page-days", "--presence", "--ops-listen"],
    ),
    "demo": (None, ["--sites", "--minutes", "--speed", "--rate", "--spike", "--seed"]),
}
ALONE = {"--no-public", "--public", "--exist-ok", "--no-alias", "--undo"}


@st.composite
def command_lines(draw: st.DrawFn, store: str) -> list[str]:
    name = draw(st.sampled_from(list(OPTIONS)))
    argument, options = OPTIONS[name]
    line = [*name.split(), *([draw(argument)] if argument is not None else [])]
    for option in draw(st.lists(st.sampled_from([*options, "--nothing"]), max_size=3)) if options else ():
        value = draw(words | numbers | st.just("because"))
        line += (
            [option]
            if option in ALONE
            else draw(st.sampled_from([[option, value], [f"{option}={value}"], [option]]))
        )
    line += {"serve": ["--listen", "nowhere"], "demo": ["--url", NOWHERE, "--minutes", "0.01"]}.get(name, [])
    return [*line, "--store", draw(st.sampled_from([store, store, store, *STORES]))]


class Console(io.TextIOWrapper):
    """As strict as a terminal's or a pipe's: what it can't write is an error."""

    def __init__(self, errors: str) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)

    def text(self) -> str:
        self.flush()
        written = self.buffer
        assert isinstance(written, io.BytesIO)
        return written.getvalue().decode()


def run(line: list[str]) -> tuple[int, str]:
    """Its exit status, and what it wrote to standard error."""
    out, err = Console("strict"), Console("backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as exc:
            status = int(exc.code or 0)
    out.flush()
    return status, err.text()


def fuzz(folder: Path, examples: int) -> int:
    store = folder / "stats.db"
    command(store, "site", "add", DOMAIN)
    tried = 0

    @seed(1)
    @settings(max_examples=examples, database=None)
    @given(command_lines(f"sqlite://{store}"))
    def each(line: list[str]) -> None:
        nonlocal tried
        tried += 1
        status, said = run(line)
        assert status in {0, 1, 2}
        assert not status or said.strip()
        assert "Traceback" not in said

    each()
    return tried


def test_whatever_the_arguments_there_is_a_sentence_and_a_status(tmp_path, monkeypatch):
    """0, 1 or 2, for every command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    fuzz(tmp_path, 300)


def test_a_host_that_can_not_be_looked_up_is_told(tmp_path):
    """Before anything is opened."""
    for host in ("ü..b", "\udcff", "a" * 64):
        status, said = run(["serve", "--listen", f"{host}:0", "--store", f"sqlite://{tmp_path}/stats.db"])
        assert status == 1
        assert said.startswith("statsvc: --listen: expected a host that can be looked up")


def test_what_a_terminal_can_not_show_or_nobody_reads_is_no_fault(tmp_path):
    """A locale without the reason's letters, and a reader like `head` who has left."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", DOMAIN)
    command(store, "site", "baseline", DOMAIN, "--visits", "1", "--reason", "bộ đếm cũ")
    show = [sys.executable, "-m", "statsvc", "site", "show", DOMAIN, "--store", f"sqlite://{store}"]
    ascii_only = os.environ | {"PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(
        show, capture_output=True, text=True, env=ascii_only, timeout=30, check=True
    ).stdout
    assert r"b\u1ed9 \u0111\u1ebfm" in shown
    read, write = os.pipe()
    os.close(read)
    unread = subprocess.run(show, stdout=write, stderr=subprocess.PIPE, timeout=30, check=False)
    os.close(write)
    assert (unread.returncode, unread.stderr) == (1, b"")


@pytest.mark.torture
def test_whatever_the_very_many_arguments_there_is_a_sentence_and_a_status(tmp_path, monkeypatch):
    """As before, with many more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    print(f"hostile command lines tried: {fuzz(tmp_path, 3000):,}; tracebacks: 0")
