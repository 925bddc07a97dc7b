"""What every answer has in common: CORS, and errors as JSON."""

from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import hdrs

from statsvc.api.answer import JSON, Answer
from statsvc.api.request import Request
from statsvc.errors import (
    InvalidEvent,
    NoSuchSite,
    NoSuchToken,
    Refused,
    SiteError,
    StoreError,
    TooManyEvents,
    Unavailable,
    UnknownSite,
)

COMMON_HEADERS = {
    # Of errors too: without CORS a browser hides from the page what went wrong.
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


async def preflight(_: Request) -> Answer:
    return Answer(204, headers=PREFLIGHT_HEADERS)


def json_error(status: int, sentence: str, headers: Mapping[str, str] | None = None, **more: Any) -> Answer:
    return Answer(status, orjson.dumps({"error": sentence, **more}), {**JSON, **(headers or {})})


def error_answer(exc: Exception) -> Answer:
    """What is told of an error: a sentence, and nothing of our inside."""
    match exc:
        case InvalidEvent():
            return json_error(400, str(exc), errors=exc.fields)
        case UnknownSite() | NoSuchSite() | NoSuchToken():
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
        case Refused():
            answer = json_error(exc.status, str(exc), exc.headers)
            answer.close = exc.close
            return answer
        case _:
            return json_error(500, "something went wrong here that should not have; it was logged")


def _retry_after(seconds: int) -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(seconds)}
