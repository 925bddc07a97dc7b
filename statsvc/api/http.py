"""What every answer has in common: CORS, and errors as JSON."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import orjson
from aiohttp import hdrs, web

from statsvc.announcements import Announcer, Fault, Rejected
from statsvc.errors import (
    InvalidEvent,
    NoSuchSite,
    NoSuchToken,
    SiteError,
    StoreError,
    TooManyEvents,
    Unavailable,
    UnknownSite,
)

Observe = Callable[[str, str, int, float], None]
"""Told of each answer: its route's template, method, status and the seconds it took."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COMMON_HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "ETag, Retry-After, X-Statsvc-Dropped, X-Plausible-Dropped",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Server": "statsvc",
}
OPERATIONS_HEADERS = {
    # No page may read this: neither by a script of another origin nor as what it includes.
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Server": "statsvc",
}
PAGE_HEADERS = {
    # Our pages ask nothing of the reader's device.
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
    # "*" covers every header but Authorization, and is not known to old browsers: hence the names.
    "Access-Control-Allow-Headers": "*, Authorization, Content-Type, If-None-Match, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}
RETRY_AFTER_STORE_ERROR_SECONDS = 5
BODY_SECONDS = 10.0
"""How long a body may take to come: an event is a few hundred bytes."""


def common_headers(
    draining: asyncio.Event, headers: Mapping[str, str] = COMMON_HEADERS
) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For every answer, errors too: without CORS a browser hides from the page what went wrong."""

    async def add(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(headers)
        if draining.is_set():
            # So that no client sends its next request on a connection that is about to be closed.
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    return add


async def preflight(_: web.Request) -> web.Response:
    return web.Response(status=204, headers=PREFLIGHT_HEADERS)


async def read_body(request: web.Request) -> bytes:
    """Raises HTTPRequestEntityTooLarge or TimeoutError."""
    if request.content.is_eof():
        return await request.read()  # it came with its head, as most do: a timeout costs 5 µs
    async with asyncio.timeout(BODY_SECONDS):
        return await request.read()


def json_error(
    status: int, sentence: str, headers: Mapping[str, str] | None = None, **more: Any
) -> web.Response:
    body = orjson.dumps({"error": sentence, **more})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def answering(announce: Announcer, observe: Observe) -> Any:
    """A middleware: what handlers raise becomes a sentence for people, in JSON; and each answer is timed."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = perf_counter()
        response: web.StreamResponse
        try:
            response = await handler(request)
        except ConnectionResetError:
            raise  # the reader has left while sending: there is nobody to answer, and nothing is wrong here
        except Exception as exc:  # noqa: BLE001 - whatever it is, the caller gets an answer
            response = _error(request, exc)
            if response.status >= 500 and not isinstance(exc, Unavailable | StoreError):
                announce(Fault.of(f"{request.method} {request.path[:200]}", exc))
            announce(Rejected(response.status))
        resource = request.match_info.route.resource
        if resource is None:
            # What was asked for, and how, is the caller's choice: it must not become a label.
            observe("(none)", "(any)", response.status, perf_counter() - began)
        else:
            observe(resource.canonical, request.method, response.status, perf_counter() - began)
        return response

    return middleware


def _error(request: web.Request, exc: Exception) -> web.Response:
    match exc:
        case InvalidEvent():
            return json_error(400, str(exc), errors=exc.fields)
        case UnknownSite():
            return json_error(404, str(exc))
        case NoSuchSite() | NoSuchToken():
            return json_error(404, str(exc))
        case SiteError():
            return json_error(409, str(exc))
        case TooManyEvents():
            return json_error(429, str(exc), _retry_after(exc.retry_after_seconds))
        case Unavailable():
            return json_error(503, str(exc), _retry_after(exc.retry_after_seconds))
        case StoreError():
            return json_error(
                503, "the store can't be used now", _retry_after(RETRY_AFTER_STORE_ERROR_SECONDS)
            )
        case web.HTTPRequestEntityTooLarge():
            limit = request.client_max_size
            return json_error(413, f"the body is larger than the {limit:,} bytes that are taken")
        case TimeoutError():
            response = json_error(408, f"the body did not come within {BODY_SECONDS:g} seconds")
            response.force_close()
            return response
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exc.allowed_methods))
            sentence = f"{request.method} is not answered here; these are: {allowed}"
            return json_error(405, sentence, {hdrs.ALLOW: allowed})
        case web.HTTPNotFound():
            return json_error(404, "there is nothing at this address")
        case web.HTTPException():
            authenticate = exc.headers.get(hdrs.WWW_AUTHENTICATE)
            more = {"WWW-Authenticate": authenticate} if authenticate else None
            return json_error(exc.status, exc.text or exc.reason, more)
        case _:
            return json_error(500, "something went wrong here that should not have; it was logged")


def _retry_after(seconds: int) -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(seconds)}
