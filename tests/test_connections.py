"""What comes over a raw socket: requests that are none, that never end, that hide another, and too many of them."""

import asyncio
import json
import re
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from statsvc import service
from statsvc.api import connection, listener
from statsvc.api.door import MOST_UNANSWERED_BYTES
from statsvc.api.request import BODY_SECONDS, LARGEST_BODY_BYTES
from tests.conftest import App
from tests.load import noon_zone
from tests.process import CHROME, Service, command
from tests.test_metrics import scraped

A_WHILE = 15.0
EVENT = b'{"n":"pageview","u":"https://hue.gov.vn/","d":"hue.gov.vn"}'
HEAD = b"POST /api/event HTTP/1.1\r\nHost: x\r\nUser-Agent: %s\r\n" % CHROME.encode()
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT
STREAM = b"GET /api/stream?site=hue.gov.vn HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def connected(app: App) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = app.public.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    yield reader, writer
    writer.transport.abort()


async def said(reader: asyncio.StreamReader) -> bytes:
    """All that is answered until the connection is closed."""
    answer = b""
    async with asyncio.timeout(A_WHILE):
        try:
            while part := await reader.read(65536):
                answer += part
        except ConnectionResetError:
            pass
    return answer


async def answers(app: App, *sent: bytes) -> list[int]:
    """The statuses that come back on one connection, which the service has to close."""
    async with connected(app) as (reader, writer):
        for part in sent:
            writer.write(part)
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", await said(reader))]


async def pageviews(app: App) -> int:
    return (await app.totals())["pageviews"]["total"]


async def cut(app: App) -> dict[str, float]:
    return {
        dict(labels)["reason"]: value
        for (name, labels), value in (await scraped(app)).items()
        if name == "statsvc_connections_cut_total"
    }


SMUGGLED = WHOLE
AMBIGUOUS = {
    "length and chunks": HEAD
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "chunks and length": HEAD
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + SMUGGLED,
    "two equal lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "lengths in a list": HEAD + b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a signed length": HEAD + b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
    "a length too large": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + SMUGGLED,
    "unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
    "chunked not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "space before the colon": HEAD + b"Content-Length : 0\r\n\r\n" + SMUGGLED,
    "a folded line": HEAD + b"X: a\r\n Content-Length: 0\r\n\r\n" + SMUGGLED,
    "bare line feeds": (HEAD + b"Content-Length: 0\r\n\r\n").replace(b"\r\n", b"\n") + SMUGGLED,
    "a bare carriage return": HEAD + b"X: a\rContent-Length: 0\r\n\r\n" + SMUGGLED,
    "a NUL": HEAD + b"X: a\0b\r\n\r\n" + SMUGGLED,
    "a bad chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
    "a chunk size too large": HEAD + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + SMUGGLED,
    "no host": HEAD.replace(b"Host: x\r\n", b"") + b"\r\n" + SMUGGLED,
    "two hosts": HEAD + b"Host: y\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /hit.gif?d=hue.gov.vn&u=https://hue.gov.vn/\r\n" + SMUGGLED,
    "HTTP/0.9, said": WHOLE.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "HTTP/2, said": WHOLE.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "another protocol": b"\x00\x01\x02 nonsense\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_can_be_read_in_two_ways_is_read_in_none(app: App, name: str) -> None:
    """One answer, 4xx, and the connection is closed; the event that was smuggled behind it is not counted."""
    statuses = await answers(app, AMBIGUOUS[name])
    assert len(statuses) == 1
    assert 400 <= statuses[0] < 500
    assert await pageviews(app) == 0


@pytest.mark.parametrize(
    ("name", "sent", "statuses"),
    [
        ("pipelined", WHOLE * 3 + WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), [202] * 4),
        ("many pipelined", WHOLE * 99 + WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), [202] * 100),
        ("an old client's", WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"), [202]),
        ("an old client's, kept open", WHOLE.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\nConnection: keep-alive\r\n") + WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0"), [202] * 2),
        ("chunked", HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT), [202]),
        ("absolute", WHOLE.replace(b" /api", b" http://other/api").replace(b"Host: x", b"Host: x\r\nConnection: close"), [202]),
        ("expecting", WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: close\r\nExpect: 100-continue"), [202]),
        ("upgrading to HTTP/2", WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__") + WHOLE, [202]),
        ("upgrading behind others", WHOLE * 2 + WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: upgrade\r\nUpgrade: websocket"), [202] * 3),
        ("upgrading", WHOLE.replace(b"Host: x", b"Host: x\r\nConnection: upgrade, close\r\nUpgrade: websocket"), [202]),
    ],
)  # fmt: skip
async def test_what_is_unusual_and_clear_is_answered(
    app: App, name: str, sent: bytes, statuses: list[int]
) -> None:
    """Each request once, in order, and counted once."""
    assert await answers(app, sent) == statuses
    assert await pageviews(app) == statuses.count(202)


async def half_closed(app: App, *sent: bytes) -> list[int]:
    """The statuses that come back to who says at once that nothing more will be sent."""
    async with connected(app) as (reader, writer):
        for part in sent:
            writer.write(part)
        writer.write_eof()
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", await said(reader))]


async def test_who_sends_no_more_is_answered(app: App) -> None:
    """Each request that is whole, in order; then the connection is closed."""
    assert await half_closed(app, WHOLE) == [202]
    assert await half_closed(app, WHOLE * 3) == [202] * 3
    assert await half_closed(app, WHOLE, WHOLE[:-1]) == [202]
    assert await half_closed(app, WHOLE[:-1]) == []
    assert await half_closed(app, HEAD) == []
    assert await pageviews(app) == 5


async def test_a_reader_of_a_stream_who_sends_no_more_has_left(app: App) -> None:
    """As browsers leave: else each would be kept until the next message."""
    async with connected(app) as (reader, writer):
        writer.write(STREAM)
        assert b"data:" in await reader.readuntil(b"\n\n")
        writer.write_eof()
        await said(reader)


async def test_who_waits_before_the_body_is_told_to_go_on(app: App) -> None:
    """`Expect: 100-continue`, as curl sends it for large bodies; where the body is here, nothing waits for it."""
    head, _, body = WHOLE.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue").partition(b"\r\n\r\n")
    async with connected(app) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")


async def test_a_body_that_is_announced_too_large_is_not_waited_for(app: App) -> None:
    """413 at once, before it has come, and without being asked for; then the connection is closed."""
    async with connected(app) as (reader, writer), asyncio.timeout(BODY_SECONDS / 2):
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY_BYTES + 1))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"\r\nConnection: close\r\n" in head
        await said(reader)


async def test_a_body_of_unknown_length_that_is_too_large_is_refused(app: App) -> None:
    """Once more has come than is taken, whoever waits for it: 413, which is not lost, and the end."""
    async with connected(app) as (reader, writer):
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        await asyncio.sleep(0.05)
        writer.write(b"fffff\r\n" + b"a" * (MOST_UNANSWERED_BYTES * 4))
        answer = await said(reader)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in answer
    assert (await scraped(app))["statsvc_requests_rejected_total", frozenset({("status", "413")})] == 1
    assert await cut(app) == {"large": 1}


async def test_a_head_is_the_same_without_its_body(app: App) -> None:
    """HEAD tells how long GET's answer is, and the next answer comes right behind it."""
    get = b"GET /counter.js HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(app) as (reader, writer):
        writer.write(get.replace(b"GET", b"HEAD") + get.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        head, got, body = (await said(reader)).split(b"\r\n\r\n", 2)
    (told,) = re.findall(rb"Content-Length: (\d+)", head)
    assert len(body) == int(told)
    assert told in got


async def test_what_is_no_request_gets_a_sentence_and_is_counted(app: App, capsys: Any) -> None:
    """400 as JSON with CORS, as all errors; in the metrics; and in no log."""
    async with connected(app) as (reader, writer):
        writer.write(b"\x00\x01\x02\r\n\r\n")
        head, _, body = (await said(reader)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 400 ")
    assert b"Access-Control-Allow-Origin: *" in head
    assert json.loads(body)["error"].startswith("this is not a request")
    assert (await scraped(app))["statsvc_requests_rejected_total", frozenset({("status", "400")})] == 1
    assert await cut(app) == {"not_http": 1}
    out = capsys.readouterr()
    assert out.out + out.err == ""


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("a line", b"GET /" + b"a" * 300_000),
        ("a header", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 300_000),
        ("headers", b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: a\r\n" * 50_000),
        ("chunk extensions", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 1_000_000),
        ("a body", HEAD + b"Content-Length: 1000000\r\n\r\n" + b"a" * 1_000_000),
        ("trailers", HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 50_000),
    ],
)
async def test_what_is_too_long_is_refused(app: App, name: str, sent: bytes, monkeypatch: Any) -> None:
    """With one answer, and a connection that is closed, however it is cut into pieces."""
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.2)
    assert (await answers(app, sent))[0] in {400, 413, 431}
    pieces = [sent[at : at + 5000] for at in range(0, len(sent), 5000)]
    async with connected(app) as (reader, writer):
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            pass
        assert re.match(rb"HTTP/1.[01] 4(00|13|31) |$", await said(reader))


async def test_what_is_sent_behind_a_stream_is_not_kept(app: App, monkeypatch: Any) -> None:
    """A reader who sends more than a request is let go: it would be kept for as long as the stream is open."""
    monkeypatch.setattr(connection, "LINGER_SECONDS", 0.05)
    async with connected(app) as (reader, writer):
        writer.write(STREAM)
        assert b"data:" in await reader.readuntil(b"\n\n")
        writer.write(b"GET / HTTP/1.1\r\nX: " + b"a" * MOST_UNANSWERED_BYTES)
        await said(reader)
    assert await cut(app) == {"large": 1}


async def test_a_busy_connection_is_not_taken_for_a_long_request(app: App) -> None:
    """What was answered is counted no more."""
    async with connected(app) as (reader, writer):
        for _ in range(2 * MOST_UNANSWERED_BYTES // len(WHOLE)):
            writer.write(WHOLE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
            await reader.readuntil(b"}}}")
    assert await cut(app) == {}


@pytest.mark.parametrize("first", [b"", WHOLE])
async def test_a_head_that_does_not_come_is_not_waited_for(app: App, first: bytes, monkeypatch: Any) -> None:
    """Byte by byte or not at all, on a new connection or a used one: 408, and it is closed."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    async with connected(app) as (reader, writer):
        if first:
            writer.write(first)
            await reader.readuntil(b"}}}")

        async def drip() -> None:
            for byte in HEAD:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert (await said(reader)).startswith(b"HTTP/1.1 408 ")
        dripping.cancel()
    assert await cut(app) == {"slow": 1}


async def test_a_connection_that_is_never_used_is_closed(app: App, monkeypatch: Any) -> None:
    """Without a word, and uncounted: browsers open connections ahead of need."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    async with connected(app) as (reader, _):
        assert await said(reader) == b""
    assert await cut(app) == {}


async def test_answers_that_are_not_read_end_the_connection(start: Any, monkeypatch: Any) -> None:
    """Who asks and asks and takes no answer keeps neither its connection nor what it would be answered."""
    monkeypatch.setattr(listener, "UNREAD_SECONDS", 0.3)
    async with start() as app, connected(app) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        get = b"GET /counter.js HTTP/1.1\r\nHost: x\r\n\r\n" * 30
        async with asyncio.timeout(A_WHILE):
            while (await scraped(app))["statsvc_connections", frozenset()] > 1 or not writer.is_closing():
                writer.write(get)
                await asyncio.sleep(0.02)


async def test_a_full_house_makes_room_of_who_is_silent(start: Any, monkeypatch: Any) -> None:
    """The connection that has been silent for longest is closed for a new one; one being answered is not."""
    monkeypatch.setattr(service, "MOST_CONNECTIONS", 2)
    async with start() as app, connected(app) as (streaming, reading), connected(app) as (silent, _):
        reading.write(STREAM)
        await streaming.readuntil(b"\n\n")
        async with connected(app) as (reader, writer):
            assert await said(silent) == b""
            writer.write(WHOLE)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202 ")
            assert not streaming.at_eof()
        assert await cut(app) == {"idle": 1}


async def test_a_house_full_of_work_refuses(start: Any, monkeypatch: Any) -> None:
    """Where all connections are being answered one more is told 503 and Retry-After; operators get in."""
    monkeypatch.setattr(service, "MOST_CONNECTIONS", 1)
    async with start() as app, connected(app) as (streaming, reading):
        reading.write(STREAM)
        await streaming.readuntil(b"\n\n")
        async with connected(app) as (refused, _):
            answer = await said(refused)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        assert await cut(app) == {"full": 1}


def test_there_is_room_for_what_is_no_connection(monkeypatch: Any) -> None:
    """However few files a process may open, some are left for the store and for operators."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert service._room() == 1024 - service.FILES_FOR_THE_REST


@pytest.mark.torture
def test_ten_thousand_idle_connections(tmp_path: Path) -> None:
    """Each costs a few kilobytes; all are served, and let go."""
    store = tmp_path / "stats.db"
    command(store, "site", "add", "hue.gov.vn", "--time-zone", noon_zone())
    with Service(store) as running:
        asyncio.run(_many(running, "idle", b""))
    with Service(store) as running:
        asyncio.run(_many(running, "stream", STREAM))


async def _many(running: Service, what: str, sent: bytes, most: int = 10_000) -> None:
    host, _, port = running.public.rpartition(":")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = min(most, hard - 500) if what == "idle" else min(most, hard // 2 - 500)
    before, writers, began = running.rss_kib(), [], time.monotonic()
    for _ in range(room):
        reader, writer = await asyncio.open_connection(host, int(port))
        writers.append(writer)
        if sent:
            writer.write(sent)
            await reader.readuntil(b"\n\n")
    cost = (running.rss_kib() - before) * 1024 / room
    print(f"\n{room:,} {what} connections in {time.monotonic() - began:.1f} s, {cost:,.0f} bytes of RSS each")
    assert cost < 40_000
    assert running.get("/-/healthy")[0] == 200
    for writer in writers:
        writer.transport.abort()
