"""A load generator in Python, for machines without wrk: slower than wrk, so it may be what is measured."""

import asyncio
import random
import sys
import time
from pathlib import Path

import msgspec

from bench.load import Load
from bench.requests import ID, Requests, address


class _Ledger:
    """What all connections have in common."""

    def __init__(self, requests: Requests, first_visitor: int, seed: int) -> None:
        self._requests = requests
        self._visitor = first_visitor
        self._chance = random.Random(seed)
        self.latencies: list[float] = []
        self.errors = 0
        self.bad_answers = 0

    def next(self) -> bytes:
        requests, chance = self._requests, self._chance
        if requests.visitors:
            visitor = chance.randrange(1, requests.visitors + 1)
        else:
            self._visitor += 1
            visitor = self._visitor
        tail = chance.choice(requests.tails).replace(ID, f"{chance.randrange(10**12):012}")
        return f"{requests.heads[visitor % len(requests.heads)]}{address(visitor)}{tail}".encode()


class _Connection:
    def __init__(self, host: str, port: int, ledger: _Ledger) -> None:
        self._host, self._port, self._ledger = host, port, ledger

    async def run(self, until: float) -> None:
        """One request after the other; a new connection where the server closes one."""
        while time.monotonic() < until:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except OSError:
                self._ledger.errors += 1
                return
            try:
                while time.monotonic() < until and await self._exchange(reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                self._ledger.errors += 1
            finally:
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection stays open."""
        began = time.monotonic()
        writer.write(self._ledger.next())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
        if length:
            await reader.readexactly(int(length))
        self._ledger.latencies.append(time.monotonic() - began)
        self._ledger.bad_answers += head[9:10] in b"45"
        return b"\r\nconnection: close" not in head


async def run(at: str, requests: Requests, connections: int, seconds: float, first: int, seed: int) -> Load:
    host, _, port = at.rpartition(":")
    ledger = _Ledger(requests, first, seed)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_Connection(host, int(port), ledger).run(began + seconds))
    latencies = sorted(ledger.latencies) or [0.0]
    return Load(
        answers=len(ledger.latencies),
        seconds=time.monotonic() - began,
        errors=ledger.errors,
        bad_answers=ledger.bad_answers,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[len(latencies) * 99 // 100] * 1000,
    )


def main(at: str, spec: str, connections: str, seconds: str, first_visitor: str, seed: str) -> None:
    requests = msgspec.json.decode(Path(spec).read_bytes(), type=Requests)
    result = asyncio.run(run(at, requests, int(connections), float(seconds), int(first_visitor), int(seed)))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
