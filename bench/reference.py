"""Reference (a): the emptiest aiohttp handler, with the service's event loop and settings.

It reads the body, and answers a constant as large as the service's answer.
"""

import asyncio
import sys

import uvloop
from aiohttp import web

from statsvc.api.connection import KEEPALIVE_SECONDS
from statsvc.api.listener import WAITING_CONNECTIONS
from statsvc.config import parse_address


async def serve(listen: str, answer_bytes: int) -> None:
    answer = b"0" * answer_bytes

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=202, body=answer, content_type="application/json")

    app = web.Application()
    app.add_routes([web.post("/api/event", handle), web.get("/{rest:.*}", handle)])
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, keepalive_timeout=KEEPALIVE_SECONDS, auto_decompress=False
    )
    await runner.setup()
    await web.TCPSite(runner, *parse_address(listen), backlog=WAITING_CONNECTIONS).start()
    host, port, *_ = runner.addresses[0]
    sys.stderr.write(f'{{"event": "started", "public": "{host}:{port}"}}\n')
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], int(sys.argv[2])))
