"""Senders who hang up: in the middle of a request, after it, or half. No event is half counted, nothing is logged."""

import asyncio
import random
import socket
import struct
from pathlib import Path

import pytest

from tests.faults import SITE
from tests.load import Books, Ledger, figures, loading, noon_zone, user_agent
from tests.process import Service, command

OTHER = "tre.hue.gov.vn"
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "stats.db"
    for site in (SITE, OTHER):
        command(store, "site", "add", site, "--time-zone", noon_zone())
    return store


def request(path: str) -> bytes:
    """An event of two sites: it is counted for both, or for none."""
    body = f'{{"n":"pageview","u":"https://{OTHER}{path}","d":"{SITE},{OTHER}"}}'.encode()
    head = f"POST /api/event HTTP/1.1\r\nHost: x\r\nUser-Agent: {user_agent(1)}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def hang_up(public: str, sent: bytes, how: str) -> None:
    host, _, port = public.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    await writer.drain()
    connection: socket.socket = writer.get_extra_info("socket")
    match how:
        case "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        case "half":
            writer.write_eof()
            async with asyncio.timeout(5):
                await reader.read()
    writer.close()


async def check(store: Path, service: Service, whole: set[str]) -> int:
    """Of the events that were sent whole some may be counted; each once for both sites."""
    async with loading(service.public, Ledger()) as load:
        for _ in range(3):  # what came before has been committed when these are
            sent = await load.send(SITE, 1, "/last", "pageview")
            assert sent is not None
            assert sent.status == 202
            await load.totals(SITE)
    books = Books.read(store)
    counted = {path: views for path, views in books.pages.items() if path.startswith("/once/")}
    assert counted.keys() <= whole
    assert set(counted.values()) <= {2}
    assert books.disagreements() == []
    assert [line["event"] for line in service.lines] == ["started"]
    return len(counted)


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_an_event_is_not_half_counted(store: Path, how: str) -> None:
    """Before its last byte it is none; after it, it is one for both its sites, or none. And no log line."""
    part = request("/once/part")
    with Service(store) as service:
        for end in (10, part.index(b"\r\n\r\n") + 4, len(part) - 1):
            await hang_up(service.public, part[:end], how)
        for number in range(20):
            await hang_up(service.public, request(f"/once/{number}"), how)
        await check(store, service, {f"/once/{number}" for number in range(20)})


@pytest.mark.torture
async def test_thousands_who_hang_up_anywhere(store: Path) -> None:
    """At any byte, in any way, many at a time."""
    chance, whole, rounds = random.Random(1), set(), 5000
    with Service(store) as service:
        for first in range(0, rounds, 50):
            async with asyncio.TaskGroup() as tasks:
                for number in range(first, first + 50):
                    path = f"/once/{number}"
                    sent = request(path)
                    end = chance.choice((len(sent), chance.randrange(len(sent))))
                    if end == len(sent):
                        whole.add(path)
                    tasks.create_task(
                        hang_up(service.public, sent[:end], chance.choice(("close", "reset", "half")))
                    )
        counted = await check(store, service, whole)
    figures(
        "senders who hang up",
        rounds=rounds,
        sent_whole=len(whole),
        counted=counted,
        half_counted=0,
        counted_twice=0,
    )
