"""The benchmark measures every row it names; its figures are for people to judge, on a machine at rest."""

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import msgspec
import pytest

from bench import past
from bench.__main__ import ROWS
from bench.books import Books
from bench.figures import Figure, Report, table
from bench.load import OWN, WRK, BenchError
from bench.requests import events
from bench.stage import SITE, Stage
from tests.process import Service, command

ROOT = Path(__file__).parent.parent


def run(folder: Path, *options: str) -> Report:
    """A short version of the benchmark; its report."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "--quick",
            "--json",
            folder / "last.json",
            "--charts",
            folder,
            *options,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode((folder / "last.json").read_bytes(), type=Report)


def test_every_row_can_be_measured(tmp_path):
    """All rows in short, no event lost, and the chart drawn."""
    report = run(tmp_path, "--generator", OWN)
    assert {figure.row for figure in report.figures} == set(ROWS)
    assert (tmp_path / "performance-growth.svg").read_text().count("events a second") == 1


def test_wrk_sends_the_same_requests(tmp_path):
    """The script that makes wrk's requests makes events the service counts."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    report = run(tmp_path, "--generator", WRK, "--only", "mix")
    assert report.figures


@pytest.mark.parametrize("generator", [WRK, OWN])
def test_visitors_who_come_back_are_the_same_ones(tmp_path, generator):
    """With the same browser: else they would be new ones from an address that is known."""
    if generator == WRK and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    stage = Stage(tmp_path, generator, quick=True)
    with stage.service() as service:

        def visitors() -> int:
            with urllib.request.urlopen(f"http://{service.address}/api/totals?site={SITE}") as answer:
                return json.load(answer)["visitors"]["today"]

        before = visitors()
        load = stage.load(service, events(sites=[SITE], visitors=10), 4)
        assert visitors() - before == 10 < load.answers


def test_a_run_that_lost_an_event_or_counted_one_twice_fails(tmp_path):
    """The store is asked after every load."""
    store = tmp_path / "stats.db"
    with Service(store, "--site", "hue.gov.vn"):
        pass
    books = Books(store)
    books.check(0, 1, all_pageviews=True)
    with pytest.raises(BenchError, match="the store has 0 pageviews, of 1 acknowledged"):
        books.check(1, 0, all_pageviews=True)


def test_a_made_up_past_is_sound(tmp_path):
    """`statsvc check` finds nothing wrong with the history the benchmark writes."""
    past.write(tmp_path / "stats.db", sites=7, days=40, pages=5)
    assert "sound" in command(tmp_path / "stats.db", "check")


def test_the_table_says_which_goals_are_not_met():
    """A figure beside its goal, floor or ceiling, judged by its median."""
    low = Figure("event", "of aiohttp", [0.5, 0.4, 0.9], 0.6, at_least=True)
    small = Figure("visitors", "memory", [150.0], 200, at_least=False, unit="bytes")
    rows = table(Report("now", "here", WRK, quick=False, noise={}, figures=[low, small])).splitlines()
    assert "| ≥ 0.6 | 0.5 | 100% | **unmet** |" in rows[2]
    assert "| ≤ 200 bytes | 150 bytes | once | met |" in rows[3]
