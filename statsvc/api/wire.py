"""An event on the wire: the JSON of the de-facto standard (Plausible's Events API), or a pixel's query.

Decoding and validating are one step; only a body that fails is looked at again, field by field, so
that all that is wrong with it can be told at once.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from statsvc.errors import InvalidEvent
from statsvc.model import Event
from statsvc.rules import without_controls
from statsvc.tally import PAGEVIEW

LONGEST_NAME = 120
LONGEST_ID = 100
LONGEST_DOMAINS = 2000
MOST_DOMAINS = 20

_Whole = Annotated[float, msgspec.Meta(ge=0, le=2**53, multiple_of=1)]
"""In JSON 404 and 404.0 are the same number."""
_Name = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)] | _Whole
_Domains = Annotated[str, msgspec.Meta(max_length=LONGEST_DOMAINS)]
_Props = dict[str, Any] | str
_Id = Annotated[str, msgspec.Meta(max_length=LONGEST_ID)] | int | float
_Flag = bool | float | Annotated[str, msgspec.Meta(max_length=20)]


class _Wire(msgspec.Struct, gc=False):
    """Each field under its short and its long name; the short one wins. Others are let pass.

    Referrer and props are part of the protocol; nothing is kept of them.
    """

    n: _Name | None = None
    name: _Name | None = None
    u: str | None = None
    url: str | None = None
    d: _Domains | None = None
    domain: _Domains | None = None
    r: str | None = None
    referrer: str | None = None
    p: _Props | None = None
    props: _Props | None = None
    b: _Flag | None = None
    bot: _Flag | None = None
    id: _Id | None = None


_LONG_NAMES = {"n": "name", "u": "url", "d": "domain", "r": "referrer", "p": "props", "b": "bot"}
_NO = {None, False, "", "0", "false", "undefined"}
_NONE = {None, ""}
_FIELDS = frozenset(_Wire.__struct_fields__)
_decode = msgspec.json.Decoder(_Wire).decode


def decode_event(body: bytes) -> Event:
    """Raises InvalidEvent, with every field that is wrong."""
    try:
        wire = _decode(body)
    except msgspec.ValidationError as exc:
        # Of a field that is given twice only the last is looked at again, and may be right.
        twice = {"body": [f"names a field twice, and one is wrong: {exc}"]}
        raise InvalidEvent(_wrong_fields(body) or twice) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidEvent({"body": [_not_json(body, exc)]}) from None
    return _event(wire)


def event_of_query(query: Mapping[str, str]) -> Event:
    """A pixel's event: the same fields in a query; a pageview where it is not named. Raises InvalidEvent."""
    fields = {key: value for key, value in query.items() if key in _FIELDS}
    if "n" not in fields and "name" not in fields:
        fields["n"] = PAGEVIEW
    try:
        wire = msgspec.convert(fields, _Wire)
    except msgspec.ValidationError:
        raise InvalidEvent(_wrong_fields(msgspec.json.encode(fields))) from None
    return _event(wire)


def _event(wire: _Wire) -> Event:
    name = wire.name if wire.n in _NONE else wire.n
    if isinstance(name, str):
        name = without_controls(name.strip())
    elif name is not None:
        name = str(int(name))
    url = wire.u or wire.url
    if not name or not url:
        required = ["is required"]
        raise InvalidEvent(({} if name else {"name": required}) | ({} if url else {"url": required}))
    named = _named(wire.d or wire.domain or "")
    if len(named) > MOST_DOMAINS:
        raise InvalidEvent({"domain": [f"names {len(named)} sites, at most {MOST_DOMAINS} are taken"]})
    automated = wire.b not in _NO or wire.bot not in _NO
    return Event(name, url, named, automated, "" if wire.id is None else str(wire.id))


@lru_cache(maxsize=1024)
def _named(domains: str) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, domains.split(","))))


def _not_json(body: bytes, exc: Exception) -> str:
    if isinstance(exc, RecursionError):
        said = "is nested too deeply"
    else:
        said = f"is not JSON: {exc}" if body.strip() else "is empty"
    return f"{said}; a JSON object was expected"


def _wrong_fields(body: bytes) -> dict[str, list[str]]:
    """What is wrong with a body that is JSON but no event."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return {"body": ["is not a JSON object"]}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        return {"body": [_not_json(body, exc)]}
    wrong: dict[str, list[str]] = {}
    for key in _Wire.__struct_fields__:
        if key in fields:
            try:
                _decode(b'{"%b":%b}' % (key.encode(), fields[key]))
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                said = str(exc).partition(" - at")[0].replace(" | null", "")
                wrong.setdefault(_LONG_NAMES.get(key, key), []).append(said[:1].lower() + said[1:])
    for short, long in (("n", "name"), ("u", "url")):
        if all(bytes(fields.get(key, b'""')) in (b"null", b'""') for key in (short, long)):
            wrong.setdefault(long, []).append("is required")
    return wrong
