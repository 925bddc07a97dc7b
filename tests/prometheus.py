"""Prometheus, Alertmanager, a receiver of alerts, and what an expression names. Missing programs are a skip."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest
import yaml

from tests.process import eventually

ROOT = Path(__file__).parent.parent
RULES = ROOT / "grafana" / "rules" / "statsvc.rules.yaml"

WORDS = {
    *(
        "by",
        "on",
        "and",
        "or",
        "unless",
        "without",
        "ignoring",
        "group_left",
        "group_right",
        "offset",
        "bool",
    ),
    *("sum", "max", "min", "avg", "count", "quantile", "topk"),
}
"""Of PromQL, those that stand where a metric's name could; functions are known by their bracket."""


def program(name: str) -> str:
    """Where it is; a test that needs it is skipped on a machine without it."""
    path = shutil.which(name, path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/bin:/usr/local/bin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """Run it; what it printed."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=given,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def rules() -> list[dict[str, Any]]:
    """Every rule, in the order of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def names(expr: str) -> set[str]:
    """The metrics that an expression reads, recorded ones too."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])", bare)) - WORDS


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """A process that is ready when `ready` answers 200. A context manager."""

    def __init__(self, command: list[str], port: int, ready: str, log: Path) -> None:
        self.at = f"127.0.0.1:{port}"
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        try:
            eventually(lambda: self._answers(ready), 20)
        except AssertionError:
            self.process.kill()
            raise AssertionError(log.read_text()) from None

    def _answers(self, path: str) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(f"http://{self.at}{path}", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Prometheus(Server):
    """Scrapes one statsvc every second, as the job `statsvc`."""

    def __init__(self, folder: Path, target: str, alertmanager: str, rules: Path) -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [{"job_name": "statsvc", "static_configs": [{"targets": [target]}]}],
        }
        path = folder / "prometheus.yml"
        path.write_text(yaml.safe_dump(config))
        promtool("check", "config", path)
        port = free_port()
        command = [
            program("prometheus"),
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=40d",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(command, port, "/-/ready", folder / "prometheus.log")

    def get(self, path: str, **query: str) -> Any:
        """The `data` of an answer of its HTTP API."""
        url = f"http://{self.at}/api/v1/{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as exc:
            raise AssertionError(f"{query}: {exc.read().decode()}") from None

    def query(self, expr: str) -> list[Any]:
        """The series that an expression has now."""
        data = self.get("query", query=expr)
        series: list[Any] = data["result"] if data["resultType"] != "scalar" else [data["result"]]
        return series


class Alertmanager(Server):
    """Sends every alert to one address, a second after it came."""

    def __init__(self, folder: Path, receiver: str) -> None:
        config = {
            "route": {
                "receiver": "webhook",
                "group_by": ["alertname", "site"],
                "group_wait": "1s",
                "group_interval": "1s",
            },
            "receivers": [{"name": "webhook", "webhook_configs": [{"url": receiver}]}],
        }
        path = folder / "alertmanager.yml"
        path.write_text(yaml.safe_dump(config))
        port = free_port()
        command = [
            program("prometheus-alertmanager"),
            f"--config.file={path}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        super().__init__(command, port, "/-/ready", folder / "alertmanager.log")


class Receiver:
    """A webhook: keeps every alert it is told, with when it was (monotonic seconds). A context manager."""

    def __init__(self) -> None:
        self.alerts: list[tuple[float, dict[str, Any]]] = []
        told = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.extend((time.monotonic(), alert) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def hurried() -> str:
    """The real rules, evaluated each second, over ten seconds where it was five minutes, and waiting for one."""
    text = RULES.read_text()
    text = re.sub(r"^( +interval:) \w+$", r"\1 1s", text, flags=re.MULTILINE)
    text = re.sub(r"^( +for:) \w+$", r"\1 1s", text, flags=re.MULTILINE)
    return text.replace("[5m]", "[10s]")


def backfill(folder: Path, series: Mapping[str, Iterable[tuple[float, float]]]) -> None:
    """Write samples (seconds since the epoch, value) of the past into Prometheus' data folder."""

    def lines() -> Iterator[str]:
        for name, samples in series.items():
            yield from (f"{name} {value} {at:.3f}" for at, value in samples)
        yield "# EOF\n"

    past = folder / "past.txt"
    past.write_text("\n".join(lines()))
    promtool("tsdb", "create-blocks-from", "openmetrics", past, folder / "data")
