"""Several processes on one port: one of them restarts, and nobody who was let in is left without an answer."""

import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from tests.postgres import database_of
from tests.process import UNLIMITED, Service, command, eventually
from tests.test_stop import refusal

CLIENTS = 100
SERVED = 'statsvc_http_request_duration_seconds_count{method="GET",route="/counter.js",status="200"}'


def sharing(folder: Path, name: str, public: str = "127.0.0.1:0") -> Service:
    """A process of the service whose store `folder` stands for."""
    options = ("--outbox", str(folder / f"{name}.db"), "--listen", public, *UNLIMITED)
    return Service(database_of(folder), "--reuse-port", *options)


def test_a_restart_of_one_of_two_processes_leaves_nobody_without_an_answer(tmp_path: Path) -> None:
    """Those, too, whom the kernel has given to the one that goes and who wait there; then both serve again."""
    with ExitStack() as stack:
        stays = stack.enter_context(sharing(tmp_path, "a"))
        goes = stack.enter_context(sharing(tmp_path, "b", stays.public))
        assert goes.public == stays.public
        goes.process.send_signal(signal.SIGSTOP)
        waiting = [stack.enter_context(asking(stays.public)) for _ in range(CLIENTS)]
        goes.process.terminate()
        goes.process.send_signal(signal.SIGCONT)
        assert [answered(connection) for connection in waiting] == [True] * CLIENTS
        assert goes.process.wait(10) == 0
        again = stack.enter_context(sharing(tmp_path, "b", stays.public))

        def served() -> list[bool]:
            with asking(stays.public) as connection:
                assert answered(connection)
            return [process.metric(SERVED) > 0 for process in (stays, again)]

        eventually(lambda: all(served()))


def asking(public: str) -> socket.socket:
    """A connection of its own, and a request on it."""
    host, _, port = public.rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(b"GET /counter.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return connection


def answered(connection: socket.socket) -> bool:
    with connection.makefile("rb") as answer:
        return answer.readline() == b"HTTP/1.1 200 OK\r\n"


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
            own = ("--outbox", str(tmp_path / "outbox.db"))
            assert refusal(database_of(tmp_path), "--reuse-port", *own, option, taken) == (
                f"statsvc: can't listen on {taken}: Address already in use; {hint}"
            )
