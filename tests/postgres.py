"""A real PostgreSQL, and fresh databases on it. A missing program is a skip."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from statsvc.stores.postgres import PostgresDatabase
from tests.prometheus import free_port

ANSWER_SECONDS = 60
_numbers = count(1)


def program(name: str) -> str:
    """A program of the server's: Debian keeps them off the PATH."""
    found = shutil.which(name)
    versions = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4])
    )
    if not (versions or found):
        pytest.skip(f"{name} is not installed")
    return str(versions[-1]) if versions else str(found)


def as_postgres() -> dict[str, Any]:
    """How its programs are started: they refuse to be root."""
    if os.geteuid() == 0:
        return {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": "/"}
    return {}


class PostgresServer:
    """Listens on a free port of this machine, with nothing in it and everybody trusted. A context manager."""

    def __init__(self, *options: str, of: "PostgresServer | None" = None) -> None:
        """A server of its own, or a streaming replica `of` another."""
        # Not in a folder of pytest's, which nobody else may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="statsvc-postgres-"))
        self.data = self.folder / "data"
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        if of is None:
            self.run("initdb", "-D", str(self.data), "-A", "trust", "-U", "statsvc", "--no-sync")
        else:
            self.run("pg_basebackup", "-D", str(self.data), "-R", "-c", "fast", "--no-sync", "-d", of.url())
        self.start()

    def run(self, name: str, *arguments: str) -> str:
        """Run one of its programs to its end; what it printed."""
        done = subprocess.run(
            [program(name), *arguments],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=False,
            **as_postgres(),
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self) -> None:
        settings = (
            f"port={self.port}",
            f"unix_socket_directories={self.folder}",
            "listen_addresses=127.0.0.1",
        )
        options = [part for setting in (*settings, *self.options) for part in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(self.data), *options], stdout=log, stderr=log, **as_postgres()
            )
        end = time.monotonic() + ANSWER_SECONDS
        ready = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, "PostgreSQL does not answer"
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT ends it in order, SIGQUIT at once, as a crash would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(ANSWER_SECONDS)
            self.process = None

    def sql(self, text: str, database: str = "postgres") -> str:
        """What psql prints: a line for each row, with | between its columns."""
        return self.run("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "statsvc", "-d", database,
                        "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", text).rstrip("\n")  # fmt: skip

    def files(self, database: str) -> list[bytes]:
        """What the database's files have on disk."""
        self.sql("CHECKPOINT")
        number = self.sql(f"SELECT oid FROM pg_database WHERE datname = '{database}'")
        contents = []
        for file in (self.data / "base" / number).iterdir():
            with suppress(FileNotFoundError):  # the server may remove one meanwhile
                contents.append(file.read_bytes())
        return contents

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://statsvc@127.0.0.1:{self.port}/{database}"

    def database(self, template: str = "template0") -> str:
        """The URL of a new database, empty or a copy of another."""
        name = f"statsvc_{next(_numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)  # nobody needs it any more
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def _shared() -> PostgresServer:
    return PostgresServer("fsync=off", "autovacuum=off", "max_connections=200", "log_line_prefix=%d ")


def shared() -> PostgresServer:
    """One for all tests of a session that don't stop it; durability is not what they test."""
    return _shared()


@cache
def _empty_store() -> str:
    """A database on the shared server with a store's tables, for copies."""
    url = shared().database()

    async def make() -> None:
        await (await PostgresDatabase.open(url)).close()

    thread = threading.Thread(target=lambda: asyncio.run(make()))  # a test has a loop of its own
    thread.start()
    thread.join()
    return urlsplit(url).path[1:]


@cache
def database_of(folder: Path) -> str:
    """The URL of an empty store on the shared server, one for each folder, as a file would be."""
    return shared().database(_empty_store())


@contextmanager
def stopped_at_the_end() -> Iterator[None]:
    """Ends the shared server, if there is one."""
    try:
        yield
    finally:
        if _shared.cache_info().currsize:
            _shared().__exit__()
