"""Several processes on one port: none of them stops, or starts, at the cost of a connection."""

import asyncio
import random
import socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from statsvc.api.shared_port import let_none_begin
from tests.load import Books, Ledger, Outcome, loading, pageviews
from tests.process import UNLIMITED, Service, command

SITE = "hue.gov.vn"
PEOPLE = range(200)
CLIENTS = 40
# As the command line starts them, but for its refusal: each has an SQLite file of its own here.
PROGRAM = (
    sys.executable,
    "-c",
    "import sys; from dataclasses import replace; from statsvc import cli\n"
    "load = cli.load_settings\n"
    "cli.load_settings = lambda *given: replace(load(*given), reuse_port=True)\n"
    "sys.exit(cli.main())",
)


def sharing(store: Path, public: str = "127.0.0.1:0") -> Service:
    return Service(store, "--site", SITE, "--listen", public, *UNLIMITED, program=PROGRAM)


async def test_a_restart_of_one_of_two_processes_resets_no_connection(tmp_path: Path) -> None:
    """Each event comes on a connection of its own, all the while: each is acknowledged, and counted once."""
    ledger = Ledger()
    stores = [tmp_path / "a.db", tmp_path / "b.db"]
    with ExitStack() as stack:
        stays = stack.enter_context(sharing(stores[0]))
        goes = stack.enter_context(sharing(stores[1], stays.public))
        assert goes.public == stays.public
        async with loading(stays.public, ledger, keep_alive=False) as load, asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run([SITE], PEOPLE, random.Random(1)))
            await load.until_sent(300)
            assert await asyncio.to_thread(goes.stop) == 0
            stack.enter_context(await asyncio.to_thread(sharing, stores[1], stays.public))
            await load.until_sent(300)
            load.end()
    assert ledger.unreached == 0
    assert ledger.outcomes() == {Outcome.ACKNOWLEDGED: len(ledger.sent)}
    counts = [Books.read(store).pageviews for store in stores]
    assert min(counts) > 0
    assert sum(counts) == pageviews(ledger.sent)


async def test_who_would_begin_with_a_process_that_leaves_begins_with_another() -> None:
    """Not one of many clients is let in by it or reset, and what it had let in before goes on."""
    loop = asyncio.get_running_loop()
    with (
        closing(socket.create_server(("127.0.0.1", 0), reuse_port=True)) as leaves,
        closing(socket.create_server(leaves.getsockname(), reuse_port=True)) as stays,
        ExitStack() as stack,
    ):
        for listening in (leaves, stays):
            listening.setblocking(False)
        before = [stack.enter_context(closing(_client(leaves))) for _ in range(CLIENTS)]
        let_none_begin(leaves)
        after = [stack.enter_context(closing(_client(leaves))) for _ in range(CLIENTS)]
        accepted = [stack.enter_context(closing(peer)) for peer in _waiting(leaves)]
        assert 0 < len(accepted) < len(before)
        assert {peer.getpeername() for peer in accepted} < {client.getsockname() for client in before}
        accepted[0].send(b"still here")
        (first,) = [client for client in before if client.getsockname() == accepted[0].getpeername()]
        async with asyncio.timeout(10):
            assert await loop.sock_recv(first, 100) == b"still here"
        leaves.close()
        come = len(accepted)
        async with asyncio.timeout(20):
            while come < len(before) + len(after):
                peer, _ = await loop.sock_accept(stays)
                stack.enter_context(closing(peer))
                come += 1


def _client(listening: socket.socket) -> socket.socket:
    """One that has begun to connect."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(listening.getsockname())
    return client


def _waiting(listening: socket.socket) -> list[socket.socket]:
    """Who waits to be accepted."""
    peers: list[socket.socket] = []
    while True:
        try:
            peers.append(listening.accept()[0])
        except BlockingIOError:
            return peers


def test_an_sqlite_file_is_not_for_several_processes(tmp_path: Path) -> None:
    """Said at the start, as a second one could never serve it; no file is made."""
    store = tmp_path / "stats.db"
    assert command(store, "serve", "--reuse-port", status=1) == (
        "statsvc: --reuse-port: an SQLite store is served by one process only;"
        " several on one port need a store that they share\n"
    )
    assert not store.exists()


def test_each_process_needs_an_operations_port_of_its_own(tmp_path: Path) -> None:
    """Where another has it, the sentence says what to do; so it does for a port that isn't shared."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for option, hint in {
            "--ops-listen": "with --reuse-port each process needs an --ops-listen of its own",
            "--listen": "with --reuse-port each process on it has to say so, and run as the same user",
        }.items():
            with pytest.raises(AssertionError, match="did not start") as raised:
                Service(tmp_path / "stats.db", option, taken, program=PROGRAM)
            assert f"can't listen on {taken}: Address already in use; {hint}" in str(raised.value)
