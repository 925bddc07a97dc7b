import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from statsvc import __version__
from tests.golden import equals_golden
from tests.process import CHROME, Service, command, eventually


def run(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "COLUMNS": "100", "HOME": "/nonexistent", "XDG_DATA_HOME": "/nonexistent"},
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "serve",
        "site",
        "site add",
        "site set",
        "site baseline",
        "site token",
        "token",
        "token add",
        "backup",
        "check",
        "migrate-store",
        "demo",
    ],
    ids=str,
)
def test_help_is_what_is_documented(arguments):
    """Every option with its meaning, default and environment variable."""
    name = "help " + arguments if arguments else "help"
    equals_golden(f"{name.replace(' ', '_')}.txt", run(*arguments.split(), "--help"), folded=True)


def test_version():
    """The program's version is the package's."""
    for way in ("version", "--version"):
        assert run(way) == f"statsvc {__version__}\n"


def test_bad_settings_stop_the_start_all_named(tmp_path):
    """Exit status 1, one line each."""
    said = run("serve", "--listen", "nowhere", "--site", "a b", "--store", "x", status=1)
    assert said.count("\n") == 3
    assert all(option in said for option in ("--listen", "--site", "--store"))


def test_an_unknown_command_is_status_2():
    """What is not understood is not tried."""
    assert "invalid choice" in run("serf", status=2)


def test_a_sites_life(tmp_path: Path):
    """Added, listed, changed, given a baseline, shown, removed: without a running service."""
    store = tmp_path / "stats.db"
    command(
        store,
        "site",
        "add",
        "hue.gov.vn",
        "--time-zone",
        "Asia/Ho_Chi_Minh",
        "--alias",
        "thuathienhue.gov.vn",
    )
    assert "registered already" in command(store, "site", "add", "hue.gov.vn", status=1)
    command(store, "site", "add", "hue.gov.vn", "--exist-ok")
    said = command(
        store,
        "site",
        "baseline",
        "hue.gov.vn",
        "--visits",
        "1.055.568",
        "--pageviews",
        "2,000,000",
        "--reason",
        "the old counter",
    )
    assert "visits 1,055,568, pageviews 2,000,000" in said
    command(store, "site", "set", "hue.gov.vn", "--window", "120", "--no-public")
    shown = command(store, "site", "show", "hue.gov.vn")
    for part in (
        "thuathienhue.gov.vn",
        "Asia/Ho_Chi_Minh",
        "120",
        "1,055,568",
        "the old counter",
        "public             no",
    ):
        assert part in shown
    assert "private" in command(store, "site", "list")
    said = command(store, "site", "baseline", "hue.gov.vn", "--undo", "--reason", "a typo")
    assert "begins from visits 0, pageviews 0" in said
    assert "a typo" in command(store, "site", "show", "hue.gov.vn")
    assert "Its counts are kept" in command(store, "site", "remove", "hue.gov.vn")
    assert "no site hue.gov.vn" in command(store, "site", "show", "hue.gov.vn", status=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("site show x.vn", "no site x.vn is registered (registered: hue.gov.vn)"),
        ("site set hue.gov.vn --alias b.vn", ""),
        ("site add b.vn --alias hue.gov.vn", "hue.gov.vn belongs to the site hue.gov.vn already"),
        ("site baseline hue.gov.vn --reason x", "expected --visits"),
        ("site baseline hue.gov.vn --visits 5 --reason ''", "--reason: expected a text"),
        ("site baseline hue.gov.vn --visits -5 --reason x", "would make the total negative"),
        ("site baseline hue.gov.vn --undo --reason x", "no baseline to undo"),
        ("site baseline hue.gov.vn --undo --visits 5 --reason x", "goes without"),
        ("site token hue.gov.vn --revoke 9", "has no token 9"),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(tmp_path, arguments, said):
    """Status 1, and what was expected; nothing is changed."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    words = [word.strip("'") for word in arguments.split()]
    assert said in command(store, *words, status=1 if said else 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("site add hue.gov.vn --time-zone Hanoi", "expected a name of the time zone database"),
        ("site add hue.gov.vn --window 0", "expected seconds, from 1 to 86,400"),
        ("site add https://hue.gov.vn", "expected a domain"),
        ("site baseline hue.gov.vn --visits many --reason x", "expected a whole number"),
        ("site baseline hue.gov.vn --visits 1055568.00 --reason x", "expected a whole number"),
        ("site baseline hue.gov.vn --visits 1.5 --reason x", "expected a whole number"),
        ("site baseline hue.gov.vn --visits=--5 --reason x", "expected a whole number"),
        ("site baseline hue.gov.vn --visits 9000000000000000 --reason x", "at most 1,000,000,000,000,000"),
        ("site baseline hue.gov.vn --visits 5 --reason a\nb", "expected a text of one line"),
        ("site add hue.gov.vn --time-zone localtime", "expected a name of the time zone database"),
        ("site baseline hue.gov.vn --visits 1", "--reason"),
    ],
)
def test_bad_arguments_are_told(tmp_path, arguments, said):
    """Status 2, with the value that came."""
    assert said in command(tmp_path / "stats.db", *arguments.split(" "), status=2)


def test_commands_beside_a_running_service_show_within_a_second(tmp_path: Path):
    """A new site counts, a baseline is in the totals and a token opens a private site, without a restart."""
    store = tmp_path / "stats.db"

    def ask(path: str, body: bytes | None = None, token: str = "") -> dict[str, Any]:
        headers = {"User-Agent": CHROME} | ({"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urlopen(Request(f"http://{service.public}{path}", body, headers), timeout=5) as answer:
                return json.load(answer)
        except HTTPError as exc:
            with exc:
                return {"status": exc.code}

    with Service(store) as service:
        assert ask("/api/totals?site=hue.gov.vn") == {"status": 404}
        command(store, "site", "add", "hue.gov.vn")
        eventually(lambda: ask("/api/totals?site=hue.gov.vn").get("visits"), 1.5)
        ask("/api/event", b'{"n":"pageview","u":"https://hue.gov.vn/","d":"hue.gov.vn"}')
        command(store, "site", "baseline", "hue.gov.vn", "--visits", "41", "--reason", "old")
        eventually(lambda: ask("/api/totals?site=hue.gov.vn")["visits"]["total"] == 42, 1.5)
        command(store, "site", "set", "hue.gov.vn", "--no-public")
        eventually(lambda: ask("/api/totals?site=hue.gov.vn") == {"status": 403}, 1.5)
        token = re.search(r"statsvc_\S+", command(store, "site", "token", "hue.gov.vn", "--note", "intranet"))
        assert token
        assert ask("/api/totals?site=hue.gov.vn", token=token[0])["visits"]["total"] == 42
        command(store, "site", "token", "hue.gov.vn", "--revoke", "1")
        assert ask("/api/totals?site=hue.gov.vn", token=token[0]) == {"status": 403}
        command(store, "site", "remove", "hue.gov.vn")
        eventually(lambda: ask("/api/totals?site=hue.gov.vn") == {"status": 404}, 1.5)
        assert service.stop() == 0


def test_a_token_for_the_whole_service_is_made_listed_and_revoked(tmp_path: Path):
    """Who it is for must be said; it is shown once, and what is listed has no part of it."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    assert "--note" in command(store, "token", "add", status=2)
    assert command(store, "token", "list") == ""
    made = command(store, "token", "add", "--note", "the ministry's portal")
    assert made.startswith("token 1 (admin) for the whole service, shown this once:\nstatsvc_")
    listed = command(store, "token", "list")
    assert re.fullmatch(r"  1  admin  made \S+  the ministry's portal\n", listed)
    command(store, "token", "revoke", "1")
    assert "(revoked " in command(store, "token", "list")
    assert "could be revoked" in command(store, "token", "revoke", "1", status=1)
    command(store, "site", "token", "hue.gov.vn")
    assert "no token 2" in command(store, "token", "revoke", "2", status=1)


def test_a_private_site_comes_back_as_it_was(tmp_path: Path):
    """Removed and added again: private, with its time zone and aliases; what is given anew is changed."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn", "--no-public", "--time-zone", "Asia/Tokyo", "--alias", "b.vn")
    command(store, "site", "remove", "hue.gov.vn")
    added = command(store, "site", "add", "hue.gov.vn", "--window", "60")
    for line in ("public             no", "Asia/Tokyo", "b.vn", "window seconds     60"):
        assert line in added


def test_looking_makes_nothing(tmp_path: Path):
    """A typo in --store is told, and leaves no empty store behind; looking at one writes nothing."""
    missing = tmp_path / "typo" / "stats.db"
    assert "there is no store at" in command(missing, "site", "list", status=1)
    assert not missing.parent.exists()
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn")
    before = store.read_bytes()
    command(store, "site", "show", "hue.gov.vn")
    assert store.read_bytes() == before
