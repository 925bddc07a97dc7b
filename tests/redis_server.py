"""Real redis-servers on free ports: one alone, or a cluster of three. A missing program is a skip."""

import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from redis import Redis
from redis.exceptions import RedisError

from statsvc.config import parse_presence
from statsvc.presence.client import connected
from tests.process import eventually

PATIENCE_SECONDS = 60.0
"""A machine may be slow: where nothing is broken on purpose, a call may take long."""
CLUSTER_NODES = 3
PORTS = range(20_000, 32_000)
"""Below those that the kernel gives away: a server that comes back finds its port free."""


STARTS = 5


class PortTaken(Exception):
    """Somebody else was faster."""


def program() -> str:
    """Debian has it in `redis-server`."""
    path = shutil.which("redis-server")
    if path is None:
        pytest.skip("redis-server is not installed")
    return path


def free_port() -> int:
    """One that is free, as is the one 10,000 above it, which a cluster's node takes, too."""
    for port in random.sample(PORTS, 100):
        with socket.socket() as own, socket.socket() as bus, suppress(OSError):
            own.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port
    raise AssertionError("no port is free")


class RedisServer:
    """Runs when it is made; `options` are its own. A context manager. What it holds is gone with it."""

    def __init__(self, *options: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="statsvc-redis-")
        self.folder = Path(self._folder.name)
        self._options = options
        for _ in range(STARTS):
            self.port = free_port()
            with suppress(PortTaken):
                self.start()
                return
        raise AssertionError("every port was taken before it was used")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Empty, but for a snapshot that was saved."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        self._process = subprocess.Popen(
            [program(), *where, "--save", "", "--appendonly", "no", *self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        eventually(self._answers, PATIENCE_SECONDS)

    def kill(self) -> None:
        """It ends at once."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """It takes connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> Any:
        """What it answers to a command."""
        with Redis(port=self.port, socket_timeout=10) as client:
            return client.execute_command(*words)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise PortTaken
        with suppress(RedisError):
            return bool(self.ask("INFO", "server")["process_id"] == self._process.pid)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._folder.cleanup()


@asynccontextmanager
async def redis_client(url: str) -> AsyncIterator[Any]:
    """As the service connects to it, with more patience."""
    where = parse_presence(url)
    assert where is not None
    async with connected(where, PATIENCE_SECONDS) as client:
        yield client


@contextmanager
def redis_cluster() -> Iterator[list[RedisServer]]:
    """Three nodes, each with its third of the keys."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"))
            for _ in range(CLUSTER_NODES)
        ]
        slots = [16_384 * number // CLUSTER_NODES for number in range(CLUSTER_NODES + 1)]
        for node, first, after in zip(nodes, slots, slots[1:], strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(after - 1))
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(nodes.index(node) + 1))
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
        for node in nodes:
            eventually(lambda node=node: _is_whole(node), seconds=30)
        yield nodes


def _is_whole(node: RedisServer) -> bool:
    info = str(node.ask("CLUSTER", "INFO"))
    return "cluster_state:ok" in info.replace("'", "") and f"cluster_known_nodes:{CLUSTER_NODES}" in info


class Sentinels:
    """A server, its replica, and a Sentinel that makes the replica the server when that is gone."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        enter = self._stack.enter_context
        self.primary = enter(RedisServer("--repl-diskless-sync-delay", "0"))
        self.replica = enter(RedisServer("--replicaof", "127.0.0.1", str(self.primary.port)))
        eventually(lambda: "master_link_status:up" in self._info(self.replica), PATIENCE_SECONDS)
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="statsvc-sentinel-")))
        self.port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\n"
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 5000\n"
        )
        process = subprocess.Popen(
            [program(), str(config), "--sentinel"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        eventually(self._knows_the_replica, PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/main"

    def fail_over(self) -> None:
        """The server ends; returns when the Sentinel names the replica."""
        self.primary.kill()
        eventually(lambda: self._ask("GET-MASTER-ADDR-BY-NAME")[1] == self.replica.port, PATIENCE_SECONDS)

    def _knows_the_replica(self) -> bool:
        with suppress(RedisError):
            replicas: list[dict[bytes, bytes]] = self._ask("REPLICAS")
            replica = replicas[0] if replicas else {}
            return replica.get(b"flags") == b"slave" and replica.get(b"master-link-status") == b"ok"
        return False

    def _ask(self, word: str) -> Any:
        with Redis(port=self.port, socket_timeout=10) as client:
            return client.execute_command(f"SENTINEL {word}", "main")

    def _info(self, server: RedisServer) -> str:
        with Redis(port=server.port, socket_timeout=10) as client:
            return "".join(f"{name}:{value}\n" for name, value in client.info("replication").items())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
