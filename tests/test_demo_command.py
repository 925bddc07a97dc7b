"""`statsvc demo` against real services."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load import Books, noon_zone
from tests.process import Service, command, eventually

PLAY = ("--minutes", "0.03", "--rate", "200", "--seed", "1")


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "stats.db") as service:
        yield service


def start(service: Service, *options: str, **others) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "statsvc", "demo", "--url", f"http://{service.public}", *options]
    others = {"stderr": subprocess.PIPE} | others
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, **others)


def play(service: Service, *options: str) -> tuple[int, str]:
    """Its exit status, and all it said."""
    with start(service, *options) as demo:
        said, complaints = demo.communicate(timeout=60)
    return demo.returncode, said + complaints


def counted(said: str) -> dict[str, tuple[int, int]]:
    """By site: pageviews acknowledged to people, and counted."""
    lines = re.findall(
        r"^(\S+): ([\d,]+) pageviews of people acknowledged, ([\d,]+) counted", said, re.MULTILINE
    )
    return {site: (int(one.replace(",", "")), int(other.replace(",", ""))) for site, one, other in lines}


def test_a_day_is_played_and_counted(service):
    """New sites are registered, all is acknowledged, and what is acknowledged is what the totals then say."""
    status, said = play(service, "--store", f"sqlite://{service.store}", *PLAY)
    assert status == 0, said
    books = counted(said)
    assert list(books) == ["hue.example", "danang.example", "thuvien.example"]
    assert all(acknowledged == there for acknowledged, there in books.values())
    assert books["hue.example"][0] > 50
    sent, acknowledged = re.search(r"sent ([\d,]+) events .*: ([\d,]+) acknowledged\n", said).groups()  # type: ignore[union-attr]
    assert sent == acknowledged
    assert "half of the answers came within" in said
    shown = command(service.store, "site", "show", "hue.example")
    assert re.search(r"bots +[1-9]", shown)
    assert re.search(r"window seconds +60", shown)
    assert "add up" in command(service.store, "check")


def test_sites_that_are_there_are_played_on(service):
    """Without a store too; their settings stay as they are."""
    command(service.store, "site", "add", "a.example", "--window", "120", "--time-zone", noon_zone())
    eventually(lambda: play(service, "--sites", "a.example", *PLAY)[0] == 0)
    assert re.search(r"window seconds +120", command(service.store, "site", "show", "a.example"))


def test_who_has_no_store_is_told_what_to_run(service):
    """The commands that register what is missing, and nothing is sent."""
    status, said = play(service, "--sites", "a.example", "b.example")
    assert status == 1
    for site in ("a.example", "b.example"):
        assert (
            f"    statsvc site add {site} --window 60 --visit-gap 120 --time-zone Asia/Ho_Chi_Minh\n" in said
        )
    assert Books.read(service.store).pageviews == 0


def test_a_store_that_is_not_the_services_is_told(service, tmp_path: Path):
    """What was registered there doesn't count here."""
    other = tmp_path / "other.db"
    command(other, "site", "add", "z.example")
    status, said = play(service, "--sites", "a.example", "--store", f"sqlite://{other}")
    assert status == 1
    assert "it serves from another store" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--url", "http://127.0.0.1:9"), "no statsvc answers at http://127.0.0.1:9"),
        (("--url", "nowhere"), "--url: expected http:// or https://, got 'nowhere'"),
        (("--url", "ftp://x"), "--url: expected http:// or https://, got 'ftp://x'"),
        (("--sites", "a b"), "--sites: expected a domain"),
        (("--minutes", "none"), "expected a number from 0.01 to 10,000, got 'none'"),
        (("--rate", "1e9"), "expected a number from 0.1 to 2,000"),
    ],
)
def test_what_cannot_be_played_gets_a_sentence(options, said):
    """And no traceback."""
    arguments = [sys.executable, "-m", "statsvc", "demo", *options]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_it_cleanly(service):
    """What is under way is waited for, the summary is printed, and the books agree."""
    store = f"sqlite://{service.store}"
    with start(service, "--store", store, "--minutes", "5", "--rate", "200") as demo:
        eventually(lambda: Books.read(service.store).pageviews > 50)
        demo.send_signal(signal.SIGINT)
        said, complaints = demo.communicate(timeout=20)
    assert demo.returncode == 130
    assert complaints == ""
    assert all(acknowledged == there for acknowledged, there in counted(said).values())
    assert "refused" not in said


def test_a_service_that_dies_is_told(service):
    """What was not answered is counted as such, and the rest stands in the summary."""
    store = f"sqlite://{service.store}"
    with start(service, "--store", store, "--minutes", "0.1", "--rate", "200") as demo:
        eventually(lambda: Books.read(service.store).pageviews > 50)
        service.kill()
        said, complaints = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert re.search(r"[1-9]\d* refused \(no answer, \w+\)", said)
    assert "no statsvc answers" in complaints


def test_a_terminal_sees_the_day_go_by(service):
    """The made-up hour, the rate and what came of it, on one line."""
    ours, theirs = pty.openpty()
    store = f"sqlite://{service.store}"
    with start(service, "--store", store, *PLAY, stderr=theirs) as demo:
        os.close(theirs)
        shown = os.read(ours, 1000).decode()
        demo.communicate(timeout=20)
    os.close(ours)
    assert re.search(r"\r\[[#.]{20}\] +\d+%  0[67]:\d\d \d+ events/s, \d+ acknowledged", shown)
