"""A real `statsvc serve` process, for tests that kill it, hang it, or open it in a browser."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)
START_SECONDS = 20.0
UNLIMITED = ("--visitor-limit", "off", "--network-limit", "off")
PROGRAM = (sys.executable, "-m", "statsvc")


class Service:
    """Starts on free ports, over a file or a store's URL; `public` and `operations` are HOST:PORT. A context manager."""

    def __init__(
        self,
        store: Path | str,
        *options: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        cwd: Path | None = None,
    ) -> None:
        self.store = store
        self.lines: list[dict[str, Any]] = []
        self.public = self.operations = ""
        arguments = ("--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", *options)
        command = [*program, "serve", "--store", store_url(store), *arguments]
        self.process = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
        self._started = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._started.wait(START_SECONDS) or not self.public:
            self.kill()
            raise AssertionError(f"statsvc did not start: {self.lines}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            for line in stderr:
                try:
                    entry = json.loads(line)
                except ValueError:
                    entry = {"text": line.decode().rstrip()}
                self.lines.append(entry)
                if entry.get("event") == "started":
                    self.public, self.operations = entry["public"], entry["operations"]
                    self._started.set()
        self._started.set()

    def get(self, path: str) -> tuple[int, str]:
        """What the operations listener answers: status and text."""
        with urllib.request.urlopen(f"http://{self.operations}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()

    def metric(self, sample: str) -> float:
        """A sample's value now, by its name with its labels as they are printed; 0 where there is none."""
        found = re.search(rf"^{re.escape(sample)} (\S+)$", self.get("/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def rss_kib(self) -> int:
        """Memory that the process holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def kill(self) -> None:
        """As power loss would end it, but for what the kernel still holds."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def stop(self, seconds: float = 10.0) -> int:
        """SIGTERM; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(seconds)
        self._reader.join()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def store_url(store: Path | str) -> str:
    """Of a file; a URL stays what it is."""
    return store if isinstance(store, str) else f"sqlite://{store}"


def command(store: Path | str, *arguments: str, status: int = 0) -> str:
    """Run another `statsvc` command on the store; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "statsvc", *arguments, "--store", store_url(store)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == status, done.stderr or done.stdout
    return done.stdout if status == 0 else done.stderr or done.stdout


class Answer(NamedTuple):
    status: int
    text: str


def answer(address: str, path: str) -> Answer:
    """What is answered to a GET, whatever its status."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return Answer(response.status, response.read().decode(errors="replace"))
    except urllib.error.HTTPError as exc:
        with exc:
            return Answer(exc.code, exc.read().decode())


def eventually(condition: Any, seconds: float = 10.0) -> Any:
    """Ask until what `condition()` returns is true, and return it."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            assert value, "it did not come to be"
            return value
        time.sleep(0.02)
