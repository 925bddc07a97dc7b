"""Load on a server: wrk's where it is installed, else that of our own generator, from the load's core."""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.cores import LOAD_CORE, on_core
from bench.requests import Requests

SCRIPT = Path(__file__).with_name("requests.lua")


class Load(msgspec.Struct, frozen=True):
    """What came back."""

    answers: int
    seconds: float
    errors: int
    """Connections refused, broken or timed out."""
    bad_answers: int
    """Answers with a status of 400 or more."""
    p50_ms: float
    p99_ms: float
    cpu_us: float = 0.0
    """What the server computed for an answer: what else runs on its core disturbs this less than the rate."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.answers - self.bad_answers) / self.seconds


class BenchError(Exception):
    """A measurement that can't stand."""


WRK, OWN = "wrk", "own"
"""Generators."""


def best_generator() -> str:
    return WRK if shutil.which("wrk") else OWN


def load(
    generator: str,
    address: str,
    requests: Requests,
    connections: int,
    seconds: float,
    first_visitor: int,
    seed: int,
) -> Load:
    """`seconds` of `requests` from so many connections, each one at a time.

    Raises BenchError where an answer was an error, or a connection failed.
    """
    with TemporaryDirectory() as folder:
        if generator == WRK:
            spec = Path(folder) / "requests"
            spec.write_text(requests.for_wrk(first_visitor, seed), newline="")
            # wrk takes whole seconds only.
            command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
            command += ["-s", str(SCRIPT), f"http://{address}/", "--", str(spec)]
        else:
            spec = Path(folder) / "requests.json"
            spec.write_bytes(msgspec.json.encode(requests))
            numbers = map(str, (connections, seconds, first_visitor, seed))
            command = [sys.executable, "-m", "bench.generator", address, str(spec), *numbers]
        with on_core(LOAD_CORE):
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=False)
    if done.returncode:
        raise BenchError(f"{command[0]} failed: {done.stderr or done.stdout}")
    result = msgspec.json.decode(done.stdout.splitlines()[-1], type=Load)
    if result.errors or result.bad_answers or not result.answers:
        raise BenchError(
            f"{result.answers} answers, {result.bad_answers} of them errors;"
            f" {result.errors} connections failed"
        )
    return result
