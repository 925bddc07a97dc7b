import json
import socket
from collections import Counter
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from statsvc.announcements import (
    Announcement,
    Announcer,
    CommitFailed,
    Committed,
    Fault,
    SitesChanged,
    Started,
    Stopped,
    Stopping,
    StoreAway,
    StoreBack,
)
from statsvc.log import LogObserver
from tests.process import CHROME, Service


class Deaf:
    """An observer that breaks."""

    def notice(self, announcement: Announcement) -> None:
        raise ValueError("I can't hear you")


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def notice(self, announcement: Announcement) -> None:
        self.heard.append(announcement)


def test_an_observer_that_raises_is_nobody_elses_problem():
    """The others hear the announcement, and of the fault."""
    listener = Listener()
    Announcer([Deaf(), listener])(Stopped())
    assert [type(announcement) for announcement in listener.heard] == [Fault, Stopped]
    assert listener.heard[0].error == "ValueError: I can't hear you"


@pytest.mark.parametrize(
    ("announcement", "words"),
    [
        (Started("0.0.0.0:8080", "127.0.0.1:8081", "stats.db", "memory:", 3), "started"),
        (Stopping(), "stopping"),
        (Stopped(), "stopped"),
        (SitesChanged(3), "sites read again"),
        (CommitFailed(3, "disk full", given_up=True), "disk full"),
        (Fault("here", "ValueError: x", "Traceback"), "ValueError: x"),
        (StoreAway("connection refused"), "connection refused"),
        (StoreBack(12), "the store is back"),
    ],
)
def test_what_operators_must_know_is_logged(announcement, words, capsys):
    """One line for each."""
    LogObserver().notice(announcement)
    out = capsys.readouterr()
    assert words in out.out + out.err


def test_a_failure_that_lasts_is_told_once_and_its_end_too(capsys):
    """A full disk fails hundreds of batches a second: they don't fill a log."""
    log = LogObserver()
    for _ in range(3):
        log.notice(CommitFailed(3, "disk full", given_up=True))
    for _ in range(3):
        log.notice(Committed(1, Counter(), 0.1, 1))
    out = capsys.readouterr()
    assert len((out.out + out.err).splitlines()) == 2
    assert "commits succeed again" in out.out + out.err


def test_a_busy_log_is_json_and_has_no_address_and_no_user_agent(tmp_path):
    """Hits, bots, bad requests and what is not HTTP: no line tells who it was."""
    with Service(tmp_path / "stats.db", "--site", "hue.gov.vn", "--trusted-proxy", "127.0.0.1") as service:
        url = f"http://{service.public}/api/event"
        good = b'{"n":"pageview","u":"https://hue.gov.vn/","d":"hue.gov.vn"}'
        for body in (good, good, b"{", b"{}", good.replace(b"hue", b"xyz")):
            for user_agent in (CHROME, "curl/8"):
                headers = {"User-Agent": user_agent, "X-Forwarded-For": "203.0.113.77"}
                try:
                    urlopen(Request(url, body, headers), timeout=5).close()
                except HTTPError as exc:
                    exc.close()
        host, port = service.public.split(":")
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(b"\x16\x03\x01 not http 203.0.113.77\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.")
        assert service.stop() == 0
    text = json.dumps(service.lines)
    assert [line["event"] for line in service.lines] == ["started", "stopping", "stopped"]
    assert "203.0.113" not in text
    assert "Mozilla" not in text
    assert "curl" not in text
