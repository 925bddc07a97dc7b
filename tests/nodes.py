"""Nodes of one service behind a real nginx, on ports of this machine that stay theirs while they restart."""

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.prometheus import ROOT, Server, free_port, program

CONFIG = ROOT / "docker" / "nginx.fleet.conf"


@contextmanager
def kept_ports(count: int) -> Iterator[list[str]]:
    """HOST:PORT of each. A server may listen there and stop; meanwhile nobody else gets the port."""
    with ExitStack() as stack:
        kept = []
        for _ in range(count):
            holder = stack.enter_context(closing(socket.socket()))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", 0))
            kept.append(f"127.0.0.1:{holder.getsockname()[1]}")
        yield kept


class Nginx(Server):
    """The example of docker/ as it is, before nodes at these addresses. A context manager."""

    def __init__(self, folder: Path, nodes: Sequence[str]) -> None:
        port = free_port()
        text = CONFIG.read_text().replace("listen 8080;", f"listen 127.0.0.1:{port};")
        text = text.replace("/tmp/", f"{folder}/")
        servers = re.findall(r"^ +server ([\d.]+:8080) ", text, re.MULTILINE)
        for there, here in zip(servers, nodes, strict=True):
            text = text.replace(there, here)
        path = folder / "nginx.conf"
        path.write_text(text)
        command = [program("nginx"), "-c", str(path), "-g", "daemon off;"]
        super().__init__(command, port, "/counter.js", folder / "nginx.log")
