"""Bad input over real sockets: every request gets an answer, none is a fault, and no line of the log is a sender's."""

import json
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from hypothesis import given, seed, settings

from statsvc.errors import InvalidEvent
from statsvc.rules import page_of
from tests.hostile import DOMAIN, OPERATIONS, PAGE, Answered, ask, each_alone, request, requests
from tests.process import CHROME, UNLIMITED, Service, command, eventually

FIELDS = {
    *("body", "name", "url", "domain", "referrer", "props", "bot", "id"),
    *("site", "path", "show", "lang", "theme", "style", "count", "u"),
}
MOST_GROWTH_BYTES = 64 * 1024 * 1024
SPOKEN = re.compile("[^\x00-\x1f\x7f\u2028\u2029]+")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    store = tmp_path_factory.mktemp("input") / "stats.db"
    command(store, "site", "add", DOMAIN)
    command(store, "site", "add", "secret.vn", "--no-public")
    with Service(store, *UNLIMITED, "--trusted-proxy", "127.0.0.1") as service:
        yield service


def memory_bytes(service: Service) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


def judge(raw: bytes, answered: Answered) -> None:
    """What holds for the answer to any request."""
    assert answered.status, "no answer"
    assert answered.status < 500, answered.body
    if raw.startswith(b"HEAD") or answered.unread or answered.status < 400 or answered.status == 417:
        return
    answer = json.loads(answered.body)
    assert SPOKEN.fullmatch(answer["error"])
    assert (answered.status == 400) == ("errors" in answer)
    for field, wrong in answer.get("errors", {}).items():
        assert field in FIELDS
        assert wrong
        assert all(wrong)


class Fuzz:
    """A property over many requests to the service; counts what they were answered."""

    def __init__(self, service: Service, examples: int) -> None:
        self.statuses: Counter[int] = Counter()
        before = memory_bytes(service)

        def each(address: str, raw: bytes) -> None:
            answered = ask(address, raw)
            self.statuses[answered.status] += 1
            judge(raw, answered)

        @seed(1)
        @settings(max_examples=examples, database=None)
        @given(requests())
        def public(raw: bytes) -> None:
            each(service.public, raw)

        @seed(1)
        @settings(max_examples=examples // 10, database=None)
        @given(requests(OPERATIONS))
        def operations(raw: bytes) -> None:
            each(service.operations, raw)

        for raw in each_alone():
            each(service.public, raw)
        public()
        operations()
        self.grown_bytes = memory_bytes(service) - before
        assert self.grown_bytes < MOST_GROWTH_BYTES
        metrics = ask(service.operations, request(b"GET", b"/metrics", {b"Host": b"x"})).body
        assert b"\nstatsvc_faults_total 0.0\n" in metrics
        # That it started; and once, that proxies should be declared.
        assert len(service.lines) <= 2, service.lines
        assert {line.get("level") for line in service.lines} <= {"info", "warning"}, service.lines


def test_whatever_is_sent_gets_an_answer_that_is_no_fault(service):
    """All routes and methods, with hostile queries, headers and bodies: a sentence, and the fields that are wrong."""
    statuses = Fuzz(service, 1000).statuses
    assert {200, 202, 400, 403, 404, 405, 413} <= set(statuses)


@pytest.mark.torture
def test_whatever_is_sent_very_often_gets_an_answer_that_is_no_fault(service):
    """As before, with many more; memory doesn't grow."""
    fuzz = Fuzz(service, 30_000)
    tried, grown = sum(fuzz.statuses.values()), fuzz.grown_bytes / 2**20
    print(
        f"hostile requests tried: {tried:,}; 500s: 0; memory grown by {grown:.1f} MiB; {dict(fuzz.statuses)}"
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"p":' + b"[" * 16_000, "body: is nested too deeply"),
        (b"[" * 16_000, "body: is not a JSON object"),
        (b'{"n":1e999999,"u":"https://hue.gov.vn/"}', "name: "),
        (b'{"n":404.5,"u":"https://hue.gov.vn/"}', "name: "),
        (b'{"p":{"a":' + b"9" * 5000 + b'},"n":"a","u":"https://hue.gov.vn/"}', "props: "),
        (
            b'{"u":5,"n":"a","u":"https://hue.gov.vn/"}',
            "body: names a field twice, and one is wrong: Expected `str",
        ),
        (b'{"n":"\\ud800","u":"https://hue.gov.vn/"}', "body: is not JSON: "),
    ],
)
def test_a_bad_body_is_told_what_is_wrong_with_it(service, body, said):
    """Not only that it is."""
    answered = ask(service.public, request(b"POST", b"/api/event", {b"Host": b"x"}, body))
    assert answered.status == 400
    assert json.loads(answered.body)["error"].startswith(said)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"https://{DOMAIN}:99999/", "Port out of range"),
        (f"https://{DOMAIN}:x/", "Port could not be cast"),
        (f"https://{'.' * 30}/", "names no host"),
        ("https://[fe80::1", "Invalid IPv6 URL"),
    ],
)
def test_what_is_no_page_is_no_event(url, said):
    """An address that no browser could open names no page."""
    with pytest.raises(InvalidEvent, match=said):
        page_of(url)


def naming(address: str) -> list[bytes]:
    """Requests that name an address wherever one can stand."""
    url = f"http://{address}/"
    event = {"n": "pageview", "u": url, "d": f"{DOMAIN},{address}", "r": url, "p": {"url": url}}
    headers = dict.fromkeys((b"Referer", b"Origin", b"X-Forwarded-Host"), url.encode()) | {
        b"Host": address.encode(),
        b"X-Forwarded-For": address.encode(),
        b"Forwarded": f"for={address};host={address}".encode(),
        b"User-Agent": CHROME.encode(),
    }
    targets = (f"/hit.gif?d={DOMAIN}&u={url}", f"/badge.svg?site={DOMAIN}&count=1&u={url}&path=/{url}")
    gets = [
        request(b"GET", target.encode(), headers) for target in (*targets, f"/box?site={address}", "/", url)
    ]
    bodies = [json.dumps(event | more).encode() for more in ({}, {"u": PAGE})]
    return [*gets, *(request(b"POST", b"/api/event", headers, body) for body in bodies)]


def test_no_value_makes_the_service_call_anyone(service):
    """A listener of our own, named wherever an address can stand, is called by nobody."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.setblocking(False)
        for raw in naming(f"127.0.0.1:{trap.getsockname()[1]}"):
            assert ask(service.public, raw).status in {200, 202, 404}
        with pytest.raises(BlockingIOError):
            trap.accept()


def traced(service: Service) -> bool:
    threads = Path(f"/proc/{service.process.pid}/task").glob("*/status")
    return all(b"TracerPid:\t0\n" not in thread.read_bytes() for thread in threads)


def test_no_value_makes_the_service_look_anything_up(service, tmp_path):
    """Of host names: among the calls to the kernel that take and open connections, none opens one."""
    if which("strace") is None:
        pytest.skip("strace is not installed")
    calls = tmp_path / "calls"
    attach = ["strace", "-f", "-qq", "-p", str(service.process.pid), "-o", str(calls)]
    with subprocess.Popen([*attach, "-e", "trace=accept,accept4,connect"]) as strace:
        try:
            eventually(lambda: strace.poll() is not None or traced(service))
            if strace.poll() is not None:
                pytest.skip("strace can't attach here")
            for raw in naming("stats.gov.vn"):
                assert ask(service.public, raw).status in {200, 202, 404}
        finally:
            strace.send_signal(signal.SIGINT)
    assert "accept" in calls.read_text()
    assert "connect(" not in calls.read_text()
