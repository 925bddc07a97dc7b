"""Events that come in one turn of the event loop are answered together; each gets what it would get by itself."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from statsvc.announcements import Announcer
from statsvc.api import listener
from statsvc.api.dispatch import Dispatch, Result, Together
from statsvc.api.door import Door
from statsvc.api.listener import Listener
from statsvc.api.request import Request
from statsvc.config import Address
from statsvc.keyring import Keyring
from statsvc.rules import judge
from tests.conftest import App, AppFactory
from tests.process import CHROME
from tests.test_stop import no_commit_ends

Answered = tuple[int, dict[str, str], dict[str, Any]]


class Caller:
    """A connection that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, body: bytes, header: str = "Accept: */*") -> None:
        head = f"POST /api/event HTTP/1.1\r\nHost: x\r\nUser-Agent: {CHROME}\r\n{header}\r\nContent-Length: {len(body)}"
        self.writer.write(head.encode() + b"\r\n\r\n" + body)

    async def answer(self) -> Answered:
        """Status, headers and body."""
        async with asyncio.timeout(15):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.split(": ", 1) for line in lines if line)
            body = await self.reader.readexactly(int(headers["Content-Length"]))
        return int(first.split()[1]), headers, json.loads(body)


@asynccontextmanager
async def callers(at: str, count: int) -> AsyncIterator[list[Caller]]:
    host, _, port = at.removeprefix("http://").rpartition(":")
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(Caller(*await asyncio.open_connection(host, int(port))))
            stack.callback(made[-1].writer.transport.abort)
        yield made


async def together(app: App, *bodies: bytes) -> list[Answered]:
    """The answers to what was sent, by callers of their own, before any of it was read."""
    async with callers(app.public, len(bodies)) as made:
        for caller, body in zip(made, bodies, strict=True):
            caller.send(body)
        return [await caller.answer() for caller in made]


def event(path: str = "/", **fields: object) -> bytes:
    return json.dumps(
        {"n": "pageview", "u": f"https://hue.gov.vn{path}", "d": "hue.gov.vn"} | fields
    ).encode()


async def test_each_hears_of_its_own(app: App) -> None:
    """Its page, what is wrong with it, or why it was dropped; and what is right is counted."""
    answers = await together(
        app,
        event("/a"),
        b'{"n":',
        event("/b"),
        event(d="other.example"),
        event("/" + "x" * 17_000),
        event(u="https://elsewhere.example/"),
        event("/a", id=7),
        event("/a", id=7),
    )
    assert [status for status, _, _ in answers] == [202, 400, 202, 404, 413, 202, 202, 202]
    dropped = [headers.get("X-Statsvc-Dropped") for _, headers, _ in answers]
    assert dropped == [None, None, None, None, None, "hostname", None, "duplicate"]
    pages = [list(body["pages"]) if "pages" in body else None for _, _, body in answers]
    assert pages == [["/a"], None, ["/b"], None, None, None, ["/a"], ["/a"]]
    assert {answers[place][2]["pageviews"]["total"] for place in (0, 2, 6, 7)} == {3}
    assert (await app.totals())["pageviews"]["total"] == 3


async def test_a_fault_in_one_is_not_that_of_others(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something unforeseen is one caller's 500."""

    def faulty(event: Any, page: Any, *rest: Any) -> Any:
        if page.path == "/b":
            raise RuntimeError("never seen before")
        return judge(event, page, *rest)

    monkeypatch.setattr("statsvc.collector.judge", faulty)
    answers = await together(app, event("/a"), event("/b"), event("/c"))
    assert [status for status, _, _ in answers] == [202, 500, 202]
    assert (await app.totals())["pageviews"]["total"] == 2


async def test_nobody_waits_for_another_sites_first_event_of_a_day(
    start: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its secret has to be made first, in a store that may be slow."""
    made, may_make = Keyring._made, asyncio.Event()

    async def slow(self: Keyring, key: tuple[int, str]) -> bytes:
        await may_make.wait()
        return await made(self, key)

    async with start(sites="hue.gov.vn,danang.gov.vn") as app, callers(app.public, 2) as (hue, danang):
        await app.view("/")
        monkeypatch.setattr(Keyring, "_made", slow)
        danang.send(event(u="https://danang.gov.vn/", d="danang.gov.vn"))
        hue.send(event())
        assert (await hue.answer())[2]["pageviews"]["total"] == 2
        may_make.set()
        status, _, body = await danang.answer()
        assert (status, body["site"], body["pageviews"]["total"]) == (202, "danang.gov.vn", 1)


async def test_what_is_sent_behind_an_event_is_answered_behind_it(start: AppFactory, tmp_path: Path) -> None:
    """While the disk is waited for, on the same connection: in order, and each once."""
    async with start() as app, callers(app.public, 2) as (first, other):
        await app.view("/")
        async with no_commit_ends(tmp_path / "stats.db"):
            first.send(event("/1"))
            other.send(event("/2"))
            await asyncio.sleep(0.1)
            first.send(event("/3"))
            first.send(b"{")
            first.send(event("/4"))
            await asyncio.sleep(0.1)
        answers = [await first.answer() for _ in range(4)]
        assert [status for status, _, _ in answers] == [202, 202, 400, 202]
        assert [list(answers[place][2]["pages"]) for place in (0, 1, 3)] == [["/1"], ["/3"], ["/4"]]
        assert (await other.answer())[0] == 202
        first.send(event("/5"))
        assert list((await first.answer())[2]["pages"]) == ["/5"]
        assert (await app.totals())["pageviews"]["total"] == 6


async def test_the_first_events_of_a_day_count_once_against_the_limits(start: AppFactory) -> None:
    """They wait for the day's secret, and have been let in by then, or not."""
    async with (
        start(trusted_proxy="127.0.0.1", visitor_limit="1/s,20") as app,
        callers(app.public, 30) as all_,
    ):
        for caller in all_:
            caller.send(event(), "X-Forwarded-For: 203.0.113.1")
        statuses = [(await caller.answer())[0] for caller in all_]
    assert sorted(statuses) == [202] * 20 + [429] * 10


async def test_who_leaves_harms_no_other(start: AppFactory, tmp_path: Path) -> None:
    """Both events are counted, and the one who stays is told."""
    async with start() as app, callers(app.public, 2) as (leaves, stays):
        await app.view("/")
        async with no_commit_ends(tmp_path / "stats.db"):
            leaves.send(event("/a"))
            stays.send(event("/b"))
            await asyncio.sleep(0.1)
            leaves.writer.transport.abort()
            await asyncio.sleep(0.1)
        assert (await stays.answer())[0] == 202
        assert (await app.totals())["pageviews"]["total"] == 3


async def test_a_stop_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose answer doesn't come in time is closed without it."""
    monkeypatch.setattr(listener, "ANSWERING_SECONDS", 0.05)

    async def hang(requests: Sequence[Request]) -> list[Result]:
        await asyncio.Event().wait()
        return []

    announce = Announcer([])
    routes = Dispatch({"/api/event": {"POST": Together(hang)}}, announce, lambda *_: None)
    hanging = Listener(Door(routes, announce, {}, asyncio.Event()))
    at = await hanging.open(Address("127.0.0.1", 0))
    async with callers(str(at), 1) as (caller,):
        caller.send(b"{}")
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await hanging.close()
            assert await caller.reader.read() == b""
