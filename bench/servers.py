"""The servers that are measured, each a process of its own on the server's core."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.cores import SERVER_CORE, on_core
from bench.load import BenchError

START_SECONDS = 60.0
NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ return 204; }}
  }}
}}
"""


class Server:
    """A running process that answers at `address`."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process = process
        self.address = address

    def cpu_seconds(self) -> float:
        """What it has computed so far, with all its threads and in the kernel; of nginx, the worker."""
        workers = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        user, system = 0, 0
        for pid in (str(self.process.pid), *workers):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """What of it is in memory (its resident set)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def statsvc(store: Path | str, *options: str) -> Iterator[Server]:
    """The service, as it runs behind a proxy on the same machine; `store` is SQLite's file or a URL."""
    url = f"sqlite://{store}" if isinstance(store, Path) else store
    command = [sys.executable, "-m", "statsvc", "serve", "--store", url]
    command += ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--trusted-proxy", "127.0.0.1"]
    with _telling([*command, *options]) as server:
        yield server


@contextmanager
def reference(answer_bytes: int) -> Iterator[Server]:
    """The emptiest aiohttp handler."""
    with _telling([sys.executable, "-m", "bench.reference", "127.0.0.1:0", str(answer_bytes)]) as server:
        yield server


@contextmanager
def nginx(folder: Path) -> Iterator[Server | None]:
    """With one worker, answering 204 and writing its access log; None where nginx isn't installed."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    port = free_port()
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    with on_core(SERVER_CORE):
        process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    with _stopped(process):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.01)
        yield Server(process, f"127.0.0.1:{port}")


@contextmanager
def _telling(command: Sequence[str]) -> Iterator[Server]:
    """A process that says in a line of JSON on standard error where it listens."""
    with on_core(SERVER_CORE):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stderr is not None
    with _stopped(process):
        lines: list[str] = []
        for line in process.stderr:
            lines.append(line.decode(errors="replace"))
            with suppress(ValueError):
                told = json.loads(line)
                if told.get("event") == "started":
                    break
        else:
            raise BenchError(f"{' '.join(command)} did not start: {''.join(lines)}")
        # Read on, or the process would wait for room to log in.
        threading.Thread(target=_read_to_end, args=(process.stderr,), daemon=True).start()
        yield Server(process, told["public"])


def _read_to_end(stream: IO[bytes]) -> None:
    with stream:
        for _ in stream:
            pass


@contextmanager
def _stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
