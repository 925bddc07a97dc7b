"""Stopping, and not starting: with the right exit status, a sentence, and nothing lost."""

import asyncio
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

import pytest

from statsvc.api.listener import ANSWERING_SECONDS
from tests.load import Books, Ledger, Outcome, loading, noon_zone, pageviews, until
from tests.process import Service, answer, command

SITE = "hue.gov.vn"
QUICKLY_SECONDS = 3.0
PEOPLE = range(200)
WAITING = min(900, int(Path("/proc/sys/net/core/somaxconn").read_text()))
"""More than are accepted in some turns of the event loop, no more than the kernel lets wait."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "stats.db"
    command(store, "site", "add", SITE, "--time-zone", noon_zone())
    return store


@asynccontextmanager
async def no_commit_ends(store: Path) -> AsyncIterator[None]:
    """What is committed inside waits for the end of it, as behind a slow disk."""
    with closing(sqlite3.connect(store, isolation_level=None, check_same_thread=False)) as other:
        # In a thread: a service in this event loop may have a transaction open, and needs the loop to end it.
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_under_load_keeps_what_was_acknowledged(store: Path, number: signal.Signals) -> None:
    """Under load, a stop takes seconds at most, exits with 0, and every acknowledged event is counted."""
    ledger, chance = Ledger(), random.Random(1)
    with Service(store) as service:
        async with loading(service.public, ledger) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run([SITE], PEOPLE, chance))
            await until(lambda: len(ledger.acknowledged()) > 300)
            began = time.monotonic()
            service.process.send_signal(number)
            await until(lambda: service.process.poll() is not None)
        assert time.monotonic() - began < QUICKLY_SECONDS
        assert service.process.returncode == 0
    assert [entry["event"] for entry in service.lines] == ["started", "stopping", "stopped"]
    assert ledger.of(outcome=Outcome.REFUSED) == []
    books = Books.read(store)
    assert pageviews(ledger.acknowledged()) <= books.pageviews <= pageviews(ledger.sent)
    once = {event.path for event in ledger.acknowledged() if event.name == "pageview"}
    assert once <= books.pages.keys()
    assert books.disagreements() == []


async def test_a_stop_answers_every_request_under_way(store: Path) -> None:
    """Events that wait for their commit when the stop comes are committed, and each gets its whole answer.

    Each answer tells that the connection ends: else the next event would be lost in it.
    """
    ledger = Ledger()
    with Service(store) as service:
        async with loading(service.public, ledger) as load:
            await load.send(SITE, 0)
            async with asyncio.TaskGroup() as tasks, no_commit_ends(store):
                for visitor in PEOPLE:
                    tasks.create_task(load.send(SITE, visitor))
                await load.until_waiting(service.operations, len(PEOPLE))
                service.process.terminate()
                await until(lambda: _logged(service, "stopping"))
                await _until_nobody_listens(service)
        assert service.process.wait(10) == 0
    assert len(ledger.acknowledged()) == len(ledger.sent) == 1 + len(PEOPLE)
    assert [event.connection for event in ledger.acknowledged()[1:]] == ["close"] * len(PEOPLE)
    assert Books.read(store).pageviews == 1 + len(PEOPLE)


async def test_a_body_that_does_not_come_holds_up_a_stop_for_seconds_only(store: Path) -> None:
    """A request that is not all there when the stop comes is not acknowledged and not counted."""
    with Service(store) as service:
        reader, writer = await asyncio.open_connection(*_address(service.public))
        body = b'{"n":"pageview","u":"https://hue.gov.vn/","d":"hue.gov.vn"}'
        head = b"POST /api/event HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(body) + body[:-1])
        # The server has read the head when it asks for the body.
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        service.process.terminate()
        assert await asyncio.to_thread(service.process.wait, ANSWERING_SECONDS + QUICKLY_SECONDS) == 0
        assert not (await reader.read()).startswith(b"HTTP/1.1 2")
        writer.close()
    assert Books.read(store).pageviews == 0


async def test_who_waits_to_be_accepted_when_a_stop_comes_is_answered(store: Path) -> None:
    """The kernel has let them in, and would reset them when the listener closes: none of hundreds is."""
    with Service(store) as service, ExitStack() as stack:
        service.process.send_signal(signal.SIGSTOP)
        waiting = []
        for _ in range(WAITING):
            connection = stack.enter_context(socket.create_connection(_address(service.public), timeout=10))
            connection.sendall(b"GET /counter.js HTTP/1.1\r\nHost: x\r\n\r\n")
            waiting.append(connection)
        service.process.terminate()
        service.process.send_signal(signal.SIGCONT)
        for connection in waiting:
            assert connection.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        assert service.process.wait(10) == 0


async def test_while_it_drains_all_goes_on_but_it_is_not_ready(store: Path) -> None:
    """Load balancers are told to turn elsewhere; until they do, events, streams and connections are taken.

    Each answer tells that its connection ends. A second signal ends the drain at once.
    """
    ledger = Ledger()
    with Service(store, "--drain-seconds", "600") as service:
        assert answer(service.operations, "/-/ready").status == 200
        assert service.metric("statsvc_ready") == 1
        service.process.terminate()
        await until(lambda: _logged(service, "draining"))
        assert answer(service.operations, "/-/ready") == (503, '{"error":"the service is stopping"}')
        assert answer(service.operations, "/-/healthy").status == 200
        assert service.metric("statsvc_ready") == 0
        async with loading(service.public, ledger) as load:
            for visitor in range(3):
                await load.send(SITE, visitor)
        assert [(event.status, event.connection) for event in ledger.sent] == [(202, "close")] * 3
        reader, writer = await asyncio.open_connection(*_address(service.public))
        writer.write(f"GET /api/stream?site={SITE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            assert b'"visits":{"total":3,' in await reader.readuntil(b'"pageviews"')
        assert service.process.poll() is None
        service.process.terminate()
        assert await asyncio.to_thread(service.process.wait, ANSWERING_SECONDS + QUICKLY_SECONDS) == 0
        async with asyncio.timeout(10):
            assert (await reader.read()).endswith(b"\n\n")  # the stream's end, and no reset
        writer.close()
    assert [entry["event"] for entry in service.lines] == ["started", "draining", "stopping", "stopped"]
    assert Books.read(store).pageviews == 3


async def test_a_drain_ends_by_itself(store: Path) -> None:
    """Then the stop comes, with exit status 0."""
    with Service(store, "--drain-seconds", "0.1") as service:
        assert service.stop() == 0
    assert [entry["event"] for entry in service.lines] == ["started", "draining", "stopping", "stopped"]


async def test_idle_connections_do_not_hold_up_a_stop(store: Path) -> None:
    """Browsers keep connections open for their next event; a stop closes them at once."""
    with Service(store) as service:
        async with loading(service.public, Ledger()) as load:
            await asyncio.gather(*(load.send(SITE, visitor) for visitor in PEOPLE))
            with socket.create_connection(_address(service.public)):
                began = time.monotonic()
                assert service.stop() == 0
                assert time.monotonic() - began < QUICKLY_SECONDS


def refusal(store: Path | str, *options: str) -> str:
    """The last line of a `serve` that must not run: it has to end by itself, with exit status 1."""
    return command(store, "serve", *FREE_PORTS, *options, status=1).splitlines()[-1]


def test_a_second_server_on_one_file_is_refused(store: Path) -> None:
    """The second says who is in its way and exits with 1; the first goes on; afterwards another may start."""
    with Service(store) as first:
        assert refusal(store) == (
            f"statsvc: {store} is being served by another statsvc; stop it first, or choose another --store"
        )
        assert " 200 OK" in _get(first.operations, "/-/healthy")
        first.kill()
    with Service(store) as third:
        assert third.stop() == 0


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_second_name_is_no_second_file(store: Path, link: str) -> None:
    """Through a link it is the same file, and refused too."""
    other = store.with_name("link.db")
    with Service(store) as first:
        if link == "symbolic":
            other.symlink_to(store)
            assert f"{store} is being served by another statsvc" in refusal(other)
        else:
            other.hardlink_to(store)
            assert "has 2 names (hard links)" in refusal(other)
            other.unlink()
        assert first.stop() == 0


def test_a_file_that_was_moved_away_is_unhealthy(store: Path) -> None:
    """What is counted into a file that nobody finds again is no count."""
    with Service(store) as service:
        assert " 200 OK" in _get(service.operations, "/-/healthy")
        store.rename(store.with_name("elsewhere.db"))
        said = _get(service.operations, "/-/healthy")
        assert " 503 " in said
        assert "has been moved or removed" in said


def test_what_never_started_does_not_log_that_it_stopped(store: Path) -> None:
    """A start that is refused leaves its sentence on standard error, and no log line."""
    with Service(store):
        said = command(store, "serve", *FREE_PORTS, status=1)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("option", ["--listen", "--ops-listen"])
def test_a_port_in_use_is_told(store: Path, option: str) -> None:
    """The address that is taken is named, and the exit status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert (
            refusal(store, option, address) == f"statsvc: can't listen on {address}: Address already in use"
        )


def test_an_address_the_machine_does_not_have_is_told(store: Path) -> None:
    """It is named, and the exit status is 1."""
    assert refusal(store, "--listen", "192.0.2.1:8080") == (
        "statsvc: can't listen on 192.0.2.1:8080: Cannot assign requested address"
    )


def test_a_name_with_an_address_of_another_family_is_listened_on(store: Path) -> None:
    """`localhost`, whatever it stands for."""
    with Service(store, "--listen", "localhost:0") as service:
        assert " 200 OK" in _get(service.public.replace("[::1]", "localhost"), "/counter.js")


def test_bad_settings_are_all_named_at_once(store: Path) -> None:
    """Four bad values, from options and the environment: four lines, exit status 1, and no file made."""
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", "serve", "--listen", "nowhere", "--site", "no/domain"],
        env={
            "STATSVC_TIME_ZONE": "Asia/Hue",
            "STATSVC_STORE": "mysql://db",
            "HOME": str(store.parent / "home"),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    for name in ("--listen", "--site", "STATSVC_TIME_ZONE", "STATSVC_STORE"):
        assert sum(name in line for line in lines) == 1, name
    assert len(lines) == 4
    assert not (store.parent / "home").exists()


FREE_PORTS = ("--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0")


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def _get(address: str, path: str) -> str:
    with socket.create_connection(_address(address), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return connection.makefile().read()


def _logged(service: Service, event: str) -> bool:
    return any(entry.get("event") == event for entry in service.lines)


async def _until_nobody_listens(service: Service) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(*_address(service.public))
                writer.close()
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                pass  # accepted by the kernel, in the moment the listener was closed
            await asyncio.sleep(0.01)
