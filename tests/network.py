"""A network namespace of one's own, with two cables to this machine: one of them may be pulled."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults import missing
from tests.process import PROGRAM


class Namespace:
    """Programs in it reach this machine, and are reached, at other addresses than the local one."""

    def __init__(self, name: str, network: int) -> None:
        self.name = name
        self.server = f"10.213.{network}.1"
        """This machine, at the end of the cable that may be pulled."""
        self.own = f"10.214.{network}.2"
        """The namespace, at the end of the other cable."""
        self._network = network

    @property
    def program(self) -> tuple[str, ...]:
        """Runs statsvc in it."""
        return ("ip", "netns", "exec", self.name, *PROGRAM)

    def lay(self) -> None:
        self._ip("netns", "add", self.name)
        for cable, there in (("a", 213), ("b", 214)):
            outer, inner = f"{self.name}{cable}", f"{self.name}{cable}1"
            self._ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", self.name)
            self._ip("address", "add", f"10.{there}.{self._network}.1/30", "dev", outer)
            self._ip("link", "set", outer, "up")
            self._ip("-n", self.name, "address", "add", f"10.{there}.{self._network}.2/30", "dev", inner)
            self._ip("-n", self.name, "link", "set", inner, "up")
        self._ip("-n", self.name, "link", "set", "lo", "up")

    def pull(self) -> None:
        """What is sent to `server` gets nowhere, and nobody is told."""
        self._ip("link", "set", f"{self.name}a", "down")

    def plug_in(self) -> None:
        self._ip("link", "set", f"{self.name}a", "up")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """Where they are not permitted, and for who isn't root, a skip."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        missing("network namespaces need root, and Debian's iproute2", in_ci=os.geteuid() == 0)
    made = Namespace(f"statsvc{os.getpid() % 10_000}", random.randrange(256))
    try:
        made.lay()
    except subprocess.CalledProcessError as exc:
        made.remove()
        missing(f"network namespaces are not permitted here: {exc.stderr.decode().strip()}")
    try:
        yield made
    finally:
        made.remove()
