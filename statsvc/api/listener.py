"""One HTTP listener, opened and closed without losing a request."""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from statsvc.api.connection import Connection
from statsvc.api.door import Door
from statsvc.config import Address
from statsvc.errors import ConfigError

UNREAD_SECONDS = 30.0
"""A client that acknowledges, or takes, nothing of its answer for so long is gone. Kept by the kernel."""
WAITING_CONNECTIONS = 1024
"""In the kernel, until they are accepted."""
ACCEPTED_A_TURN = 200
"""Connections, in one turn of the event loop."""
NO_ROOM_SECONDS = 0.1
"""How long none is accepted where the system has no room for one more."""
ANSWERING_SECONDS = 5.0
"""How long a stop waits for answers under way."""
DRAIN_SECONDS = 0.25
"""How long requests on open connections are still taken after the listener is closed. Each is answered
with `Connection: close`; a client that keeps its connections busy is told so within this time."""
TURNS_TO_THE_BATCH = 5
"""Of the event loop, from a request's last byte until it waits for its commit: two, and some to spare."""


class Listener:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._sockets: list[socket.socket] = []
        self._entering: set[asyncio.Task[object]] = set()

    async def open(self, address: Address, *, shared: bool = False, where_taken: str = "") -> Address:
        """Begin to accept; the address with its real port. Raises ConfigError where it can't be had.

        `shared`: other processes listen on it, too. `where_taken` is said where something else has the port.
        """
        if shared and sys.platform != "linux":
            raise ConfigError([f"can't share {address}: processes share a port on Linux only"])
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._sockets = _listening(
                [(family, at) for family, _, _, _, at in dict.fromkeys(found)], shared=shared
            )
        except OSError as exc:
            # Python's own sentence for a port in use names the address twice.
            reason = os.strerror(exc.errno) if exc.errno is not None and exc.errno > 0 else exc.strerror
            hint = where_taken if exc.errno == errno.EADDRINUSE else ""
            raise ConfigError([f"can't listen on {address}: {reason}{hint}"]) from exc
        for listening in self._sockets:
            loop.add_reader(listening, self._accept, listening)
        host, port, *_ = self._sockets[0].getsockname()
        return Address(host, port)

    def _accept(self, listening: socket.socket, most: int = ACCEPTED_A_TURN) -> None:
        """Take those who wait. uvloop's own server takes one in a turn: under load they wait for seconds."""
        loop = asyncio.get_running_loop()
        for _ in range(most):
            try:
                peer, (address, *_) = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue
            except OSError:  # no file descriptor is free, nor room in the kernel
                loop.remove_reader(listening)
                loop.call_later(NO_ROOM_SECONDS, self._accept_again, listening)
                return
            peer.setblocking(False)
            if not self._door.turned_away(peer):
                entering = loop.create_task(
                    loop.connect_accepted_socket(partial(Connection, self._door, loop, address), peer)
                )
                self._entering.add(entering)
                entering.add_done_callback(self._entered)

    def _accept_again(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _entered(self, entering: asyncio.Task[object]) -> None:
        self._entering.discard(entering)
        if not entering.cancelled():
            entering.exception()  # who has left meanwhile is nobody's problem

    async def drain(self) -> None:
        """Accept no new connection; take what still comes on those there are, for a moment.

        Then idle ones are closed: no request can come any more, and each that came is in its batch.
        """
        for listening in self._sockets:
            self._accept(listening, WAITING_CONNECTIONS + 1)  # the kernel resets who is left waiting
        self._close_sockets()
        if self._entering:
            await asyncio.wait(self._entering, timeout=ANSWERING_SECONDS)
        await asyncio.sleep(DRAIN_SECONDS)
        self._door.close_idle()
        for _ in range(TURNS_TO_THE_BATCH):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """Wait for the answers under way, then close every connection."""
        self._close_sockets()
        await self._door.close(ANSWERING_SECONDS)

    def _close_sockets(self) -> None:
        for listening in self._sockets:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()
        self._sockets.clear()


def _listening(found: Sequence[tuple[socket.AddressFamily, Any]], *, shared: bool) -> list[socket.socket]:
    """A socket for each address of a name, but those the machine doesn't have: IPv6, most often."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    for family, at in found:
        try:
            listening = socket.create_server(
                at, family=family, backlog=WAITING_CONNECTIONS, reuse_port=shared
            )
        except OSError as exc:
            if exc.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                for other in sockets:
                    other.close()
                raise
            missing = exc
        else:
            listening.setblocking(False)
            _set_options(listening)
            sockets.append(listening)
    if missing is not None and not sockets:
        raise missing
    return sockets


def _set_options(listening: socket.socket) -> None:
    """Those of the connections accepted here, which have them from it.

    An answer is sent at once. Whose peer is gone, or takes nothing of an answer, is ended by the kernel.
    """
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, int(UNREAD_SECONDS * 1000))
