"""The engines of a fleet, on the server's core with the nodes: what an event costs on each is measured."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bench.cores import SERVER_CORE, on_core
from bench.load import BenchError
from bench.servers import free_port
from tests.postgres import PostgresServer

_TICKS = os.sysconf("SC_CLK_TCK")


class Spent(msgspec.Struct, frozen=True):
    """What the engines did so far."""

    postgres_us: float
    redis_us: float
    wal_bytes: int
    batches: int
    commands: int
    """Commands that Redis was given, those inside scripts too."""

    def since(self, before: "Spent") -> "Spent":
        names = self.__struct_fields__
        return Spent(**{name: getattr(self, name) - getattr(before, name) for name in names})


class Engines:
    """PostgreSQL, which syncs each commit, and Redis, which keeps nothing on disk."""

    def __init__(self, postgres: PostgresServer, redis: subprocess.Popen[bytes], redis_port: int) -> None:
        self._postgres = postgres
        self._redis = redis
        self._redis_port = redis_port
        self.store = postgres.url("bench")
        self.presence = f"redis://127.0.0.1:{redis_port}"

    def sql(self, text: str) -> str:
        return self._postgres.sql(text, "bench")

    def redis(self, field: str) -> int:
        """A number from what Redis says of itself."""
        with socket.create_connection(("127.0.0.1", self._redis_port), timeout=10) as connection:
            connection.sendall(b"INFO\r\n")
            told = b""
            while b"\r\n# Keyspace" not in told:
                told += connection.recv(65536)
        for line in told.decode().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.partition(":")[2])
        raise BenchError(f"Redis does not tell {field}")

    def spent(self) -> Spent:
        wal, batches = self.sql(
            "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, (SELECT count(*) FROM statsvc.batches)"
        ).split("|")
        assert self._postgres.process is not None
        return Spent(
            postgres_us=_cpu_us(self._postgres.process.pid),
            redis_us=_cpu_us(self._redis.pid),
            wal_bytes=int(wal),
            batches=int(batches),
            commands=self.redis("total_commands_processed"),
        )


@contextmanager
def engines(folder: Path) -> Iterator[Engines | None]:
    """None where one of them is not installed."""
    program = shutil.which("redis-server")
    if program is None or not (
        shutil.which("psql") and list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    ):
        yield None
        return
    with ExitStack() as stack, on_core(SERVER_CORE):
        postgres = stack.enter_context(PostgresServer("max_wal_size=8GB"))
        postgres.sql("CREATE DATABASE bench")
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        redis = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        stack.callback(redis.terminate)
        started = Engines(postgres, redis, port)
        end = time.monotonic() + 20
        while True:
            try:
                started.redis("uptime_in_seconds")
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        yield started


def _cpu_us(pid: int) -> float:
    """Of a process and those it started, also those that have ended; 0 for one that is just ending."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return 0.0
    ticks = sum(map(int, fields[11:15]))
    return ticks / _TICKS * 1e6 + sum(_cpu_us(int(child)) for child in children)
