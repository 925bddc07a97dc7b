"""`/api/sites` on the operations listener: what `statsvc site` does, over HTTP, for who has a token.

No page of another origin can drive it: what a browser says is sent by one is refused; there is no CORS,
what changes something has a body of type application/json or a method for which a browser asks first,
and no credentials are sent that a page doesn't know.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
from aiohttp import hdrs

from statsvc.administration import (
    LARGEST_BASELINE,
    LONGEST_SPAN_SECONDS,
    LONGEST_TEXT,
    SETTINGS,
    Administration,
)
from statsvc.api.answer import JSON, Answer
from statsvc.api.reading import token_of
from statsvc.api.request import Request
from statsvc.calendar import timestamp
from statsvc.config import parse_domain, parse_time_zone
from statsvc.errors import InvalidEvent, NoSuchSite, NoSuchToken, Refused
from statsvc.model import Baseline, Scope, Site, Token
from statsvc.ports import Clock, Registry

_Span = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_SPAN_SECONDS)]
_Count = Annotated[int, msgspec.Meta(ge=-LARGEST_BASELINE, le=LARGEST_BASELINE)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]


class _Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    time_zone: str | msgspec.UnsetType = msgspec.UNSET
    aliases: Annotated[list[str], msgspec.Meta(max_length=1000)] | msgspec.UnsetType = msgspec.UNSET
    window_seconds: _Span | msgspec.UnsetType = msgspec.UNSET
    visit_gap_seconds: _Span | msgspec.UnsetType = msgspec.UNSET
    repeat_seconds: Annotated[int, msgspec.Meta(ge=0, le=LONGEST_SPAN_SECONDS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    public: bool | msgspec.UnsetType = msgspec.UNSET


class _NewSite(_Settings, kw_only=True):
    domain: str


class _NewBaseline(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    reason: _Text
    visits: _Count | None = None
    pageviews: _Count | None = None


class _Undo(msgspec.Struct, forbid_unknown_fields=True):
    reason: _Text


class _NewToken(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    scope: Scope = Scope.READ
    note: Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)] = ""


LONGEST_NUMBER = 9
"""Digits."""
Body = TypeVar("Body")


class SitesRoutes:
    """`changed` is awaited after each change, so that the running service knows it before the answer."""

    def __init__(
        self,
        administration: Administration,
        registry: Registry,
        clock: Clock,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        self._administration = administration
        self._registry = registry
        self._clock = clock
        self._changed = changed

    async def list(self, request: Request) -> Answer:
        """The sites that the token is for."""
        token = await self._admin(request)
        sites = [site for site in await self._administration.sites() if token.opens(site)]
        return _json([_settings(site) for site in sites])

    async def add(self, request: Request) -> Answer:
        """Register a site; one that was removed comes back with its counts."""
        self._for_all(await self._admin(request))
        body = await _body(request, _NewSite)
        domain = _parsed("domain", parse_domain, body.domain)
        site = await self._administration.add(domain, _given(body), self._now_ms())
        await self._changed()
        return _json(await self._whole(site), 201)

    async def show(self, request: Request) -> Answer:
        """A site with its settings, counts, baselines and tokens."""
        _, site = await self._site(request)
        return _json(await self._whole(site))

    async def change(self, request: Request) -> Answer:
        """Change the settings that the body names."""
        token, site = await self._site(request)
        body = await _body(request, _Settings)
        if body.aliases is not msgspec.UNSET:
            self._for_all(token)  # a host that one site takes is lost to the others
        site = await self._administration.change(site.domain, _given(body))
        await self._changed()
        return _json(await self._whole(site))

    async def remove(self, request: Request) -> Answer:
        """No longer count for a site or show it; its counts are kept."""
        self._for_all(await self._admin(request))
        _, site = await self._site(request)
        await self._administration.remove(site.domain, self._now_ms())
        await self._changed()
        return Answer(204, headers={})

    async def set_baseline(self, request: Request) -> Answer:
        """From now on the totals begin from these numbers. The reason is kept, with the token's number."""
        token, site = await self._site(request)
        body = await _body(request, _NewBaseline)
        if body.visits is None and body.pageviews is None:
            raise InvalidEvent({"visits": ["is required, or pageviews, or both"]})
        reason = _signed(body.reason, token)
        await self._administration.set_baseline(
            site.domain, body.visits, body.pageviews, reason, self._now_ms()
        )
        await self._changed()
        return _json(await self._whole(site), 201)

    async def undo_baseline(self, request: Request) -> Answer:
        """The baseline before the one that holds now holds again."""
        token, site = await self._site(request)
        body = await _body(request, _Undo)
        reason = _signed(body.reason, token)
        await self._administration.undo_baseline(site.domain, reason, self._now_ms())
        await self._changed()
        return _json(await self._whole(site))

    async def make_token(self, request: Request) -> Answer:
        """A token for the site; this answer is the only one that has it."""
        _, site = await self._site(request)
        body = await _body(request, _NewToken)
        note = _parsed("note", _one_line, body.note)
        made = await self._administration.make_token(site, body.scope, note, self._now_ms())
        return _json(_token(made.record) | {"token": made.text}, 201)

    async def revoke_token(self, request: Request) -> Answer:
        """From now on the token opens nothing."""
        _, site = await self._site(request)
        await self._administration.revoke_token(site, _number(request.named["token"]), self._now_ms())
        return Answer(204, headers={})

    async def _admin(self, request: Request) -> Token:
        """The caller's token. Raises Refused."""
        # https://www.w3.org/TR/fetch-metadata/: no page can set it, and no program has to send it.
        if request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            raise Refused(403, "a page of another site may not use this")
        token = await token_of(request, self._registry)
        if token is None:
            raise Refused(
                401,
                "send a token as `Authorization: Bearer TOKEN`; `statsvc token add` makes one",
                {hdrs.WWW_AUTHENTICATE: "Bearer"},
            )
        if token.scope is not Scope.ADMIN:
            raise Refused(403, f"this token's scope is {token.scope}, and admin is wanted")
        return token

    def _for_all(self, token: Token) -> None:
        if token.site_id is not None:
            raise Refused(403, "this token is for one site: one for the whole service is wanted")

    async def _site(self, request: Request) -> tuple[Token, Site]:
        """The caller's token, and the site of the address, which it must be for.

        Who has a token for one site isn't told which others there are.
        """
        token = await self._admin(request)
        with suppress(NoSuchSite) if token.site_id is not None else nullcontext():
            site = await self._administration.site(request.named["domain"].lower())
            if token.opens(site):
                return token, site
        raise Refused(403, "this token is for another site")

    async def _whole(self, site: Site) -> dict[str, Any]:
        counts = await self._administration.counts(site)
        return _settings(site) | {
            "counts": {name: count._asdict() for name, count in counts._asdict().items()},
            "total": counts.total._asdict(),
            "baselines": [_baseline(entry) for entry in await self._administration.baselines(site)],
            "tokens": [_token(token) for token in await self._administration.tokens(site)],
        }

    def _now_ms(self) -> int:
        return self._clock.now().wall_ms


async def _body(request: Request, kind: type[Body]) -> Body:
    """Raises InvalidEvent or Refused."""
    if request.content_type != "application/json":
        raise Refused(415, "expected a body of type application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.ValidationError as exc:
        said, _, place = str(exc).partition(" - at `$")
        named = re.search(r"(missing required|unknown) field `(\w+)`", said)
        if named:
            told = "is required" if named[1] == "missing required" else "is not known here"
            raise InvalidEvent({named[2]: [told]}) from None
        field = place.strip("`.").partition("[")[0] or "body"
        raise InvalidEvent({field: [said[:1].lower() + said[1:]]}) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidEvent({"body": [f"is not JSON: {exc}; a JSON object was expected"]}) from None


def _given(body: _Settings) -> dict[str, Any]:
    """The settings that a body names, each as the service keeps it. Raises InvalidEvent."""
    given = {name: getattr(body, name) for name in SETTINGS if getattr(body, name) is not msgspec.UNSET}
    if "time_zone" in given:
        given["time_zone"] = _parsed("time_zone", parse_time_zone, given["time_zone"])
    if "aliases" in given:
        given["aliases"] = [_parsed("aliases", parse_domain, alias) for alias in given["aliases"]]
    return given


def _parsed(field: str, parse: Callable[[str], str], text: str) -> str:
    try:
        return parse(text)
    except ValueError as exc:
        raise InvalidEvent({field: [f"{exc}, got {text[:200]!r}"]}) from None


def _signed(reason: str, token: Token) -> str:
    return f"{_parsed('reason', _one_line, reason)} (token {token.id})"


def _number(text: str) -> int:
    """A token's. Raises NoSuchToken for what is none."""
    if not text.isascii() or not text.isdigit() or len(text) > LONGEST_NUMBER:
        raise NoSuchToken(f"there is no token {text[:50]!r}")
    return int(text)


def _one_line(text: str) -> str:
    if not text.isprintable() or (text and not text.strip()):
        raise ValueError("expected a text of one line, without control characters")
    return text.strip()


def _settings(site: Site) -> dict[str, Any]:
    return {"domain": site.domain} | {name: getattr(site, name) for name in SETTINGS}


def _baseline(entry: Baseline) -> dict[str, Any]:
    return {
        "visits": entry.visits,
        "pageviews": entry.pageviews,
        "reason": entry.reason,
        "made_at": timestamp(entry.made_at_ms),
        "undone_at": entry.undone_at_ms and timestamp(entry.undone_at_ms),
        "undone_reason": entry.undone_reason,
    }


def _token(token: Token) -> dict[str, Any]:
    return {
        "id": token.id,
        "scope": token.scope,
        "note": token.note,
        "made_at": timestamp(token.made_at_ms),
        "revoked_at": token.revoked_at_ms and timestamp(token.revoked_at_ms),
    }


def _json(told: Any, status: int = 200) -> Answer:
    return Answer(status, orjson.dumps(told), JSON | {hdrs.CACHE_CONTROL: "no-store"})
