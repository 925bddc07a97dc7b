"""One HTTP listener, opened and closed without losing a request."""

import asyncio
import os

from aiohttp import web

from statsvc.config import Address
from statsvc.errors import ConfigError

KEEPALIVE_SECONDS = 75.0
LONGEST_LINE_BYTES = 64 * 1024
ANSWERING_SECONDS = 5.0
"""How long a stop waits for answers under way."""
DRAIN_SECONDS = 0.25
"""How long requests on open connections are still taken after the listener is closed. Each is answered
with `Connection: close`; a client that keeps its connections busy is told so within this time."""


class Listener:
    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=KEEPALIVE_SECONDS,
            shutdown_timeout=ANSWERING_SECONDS,
            # A hundred paths in other scripts than Latin are ten kilobytes of query.
            max_line_size=LONGEST_LINE_BYTES,
            # Nobody compresses a few hundred bytes; unpacking what a stranger sends costs seconds.
            auto_decompress=False,
        )

    async def open(self, address: Address) -> Address:
        """Begin to accept; the address with its real port. Raises ConfigError where it can't be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address.host, address.port, backlog=1024).start()
        except OSError as exc:
            # asyncio's own sentence for a port in use names the address twice.
            reason = os.strerror(exc.errno) if exc.errno is not None and exc.errno > 0 else exc.strerror
            raise ConfigError([f"can't listen on {address}: {reason}"]) from exc
        host, port, *_ = self._runner.addresses[0]
        return Address(host, port)

    async def drain(self) -> None:
        """Accept no new connection; take what still comes on those there are, for a moment."""
        for site in list(self._runner.sites):
            await site.stop()
        await asyncio.sleep(DRAIN_SECONDS)

    async def close(self) -> None:
        """Wait for the answers under way, then close every connection."""
        await self._runner.cleanup()
