"""What every answer has in common: CORS, errors as JSON, and the address of who asked."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import hdrs, web

from statsvc.address import Network, client_address
from statsvc.announcements import Announcer, Fault, Rejected
from statsvc.errors import InvalidEvent, StoreError, Unavailable, UnknownSite
from statsvc.model import Sender

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Retry-After, X-Statsvc-Dropped, X-Plausible-Dropped",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "statsvc",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    # "*" covers every header but Authorization, and is not known to old browsers: hence the names.
    "Access-Control-Allow-Headers": "*, Authorization, Content-Type, If-None-Match, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}
RETRY_AFTER_STORE_ERROR_SECONDS = 5


def common_headers(stopping: asyncio.Event) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For every answer, errors too: without them a browser hides from the page what went wrong."""

    async def add(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(COMMON_HEADERS)
        if stopping.is_set():
            # So that no client sends its next request on a connection that is about to be closed.
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    return add


async def preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=PREFLIGHT_HEADERS)


def json_error(
    status: int, sentence: str, headers: Mapping[str, str] | None = None, **more: Any
) -> web.Response:
    body = orjson.dumps({"error": sentence, **more})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def errors_as_json(announce: Announcer) -> Any:
    """A middleware: what handlers raise becomes a sentence for people, in JSON."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets an answer
            response = _error(request, exc)
            if response.status >= 500 and not isinstance(exc, Unavailable | StoreError):
                announce(Fault.of(f"{request.method} {request.path[:200]}", exc))
            announce(Rejected(response.status))
            return response

    return middleware


def _error(request: web.Request, exc: Exception) -> web.Response:
    match exc:
        case InvalidEvent():
            return json_error(400, str(exc), errors=exc.fields)
        case UnknownSite():
            return json_error(404, str(exc))
        case Unavailable():
            return json_error(503, str(exc), _retry_after(exc.retry_after_seconds))
        case StoreError():
            return json_error(
                503, "the store can't be used now", _retry_after(RETRY_AFTER_STORE_ERROR_SECONDS)
            )
        case web.HTTPRequestEntityTooLarge():
            limit = request.client_max_size
            return json_error(413, f"the body is larger than the {limit:,} bytes that are taken")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            sentence = f"{request.method} is not answered here; these are: {allowed}"
            return json_error(405, sentence, {hdrs.ALLOW: allowed})
        case web.HTTPNotFound():
            return json_error(404, "there is nothing at this address")
        case web.HTTPException():
            return json_error(exc.status, exc.text or exc.reason)
        case _:
            return json_error(500, "something went wrong here that should not have; it was logged")


def _retry_after(seconds: int) -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(seconds)}


def sender_of(request: web.Request, trusted: tuple[Network, ...]) -> Sender:
    address = request.remote or ""
    if trusted:
        address = client_address(address, request.headers.getall(hdrs.X_FORWARDED_FOR, ()), trusted)
    return Sender(address, request.headers.get(hdrs.USER_AGENT, ""))
