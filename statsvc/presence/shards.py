"""Calls of `redis.lua`, one for each shard that they concern, sent together."""

import asyncio
import random
import struct
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from statsvc.errors import PresenceError
from statsvc.model import Site
from statsvc.visits import LONGEST_TRAIL

SHARDS = 16
"""Of each site and audience: so that a huge site's visitors lie on many nodes, in keys of bearable size."""
CALLS_AT_ONCE = 500
"""More are sent in parts, each with the time of a call."""
META_MS = 3 * 24 * 3600 * 1000
_SCRIPT = (Path(__file__).parent / "redis.lua").read_bytes()
_SHA = sha1(_SCRIPT, usedforsecurity=False).hexdigest()
_KEYS = ("seen", "trails", "paths", "holders", "on", "meta")
_HEAD = struct.Struct(">8sddddddd")
_LEAVE_NO_NUMBER = frozenset({"count", "look", "load_day"})
_NEVER = 2**53
"""More than any shard has met: one that this process has not called yet has to be filled."""
TRIES = 4
"""How often one call may be answered that something has to be read from the store first."""


class Shard(NamedTuple):
    site: int
    bot: bool
    number: int

    def __str__(self) -> str:
        return f"{self.site}:{'bots' if self.bot else 'people'}:{self.number}"


class Call(NamedTuple):
    """One call of the script."""

    shard: Shard
    site: Site
    what: str
    now: int
    """As all its times, milliseconds of the fleet's timeline."""
    arguments: Sequence[Any]
    """What `redis.lua` says of this function, from its 3rd argument on."""
    days: Sequence[str] = ()
    """The days whose sets of visitors it needs."""


def shard_of(site_id: int, bot: bool, visitor: int) -> Shard:
    return Shard(site_id, bot, visitor % SHARDS)


def shards_of(site_id: int, bot: bool) -> list[Shard]:
    return [Shard(site_id, bot, number) for number in range(SHARDS)]


class Shards:
    """Sends calls. A shard that was lost, or is an older copy, is filled before it is used.

    `fill` is called where one was found, `load_day` where the visitors of a site's day are not there.
    Raises PresenceError where Redis can't be reached, or takes longer than it may; then any part of the
    calls may have been done. Nothing is sent twice.
    """

    def __init__(
        self,
        client: Any,
        prefix: str,
        patience_seconds: float,
        fill: Callable[[Sequence[Site]], Awaitable[None]],
        load_day: Callable[[Call, str], Awaitable[None]],
    ) -> None:
        self._client = client
        self._prefix = prefix
        self.patience_seconds = patience_seconds
        self._fill = fill
        self._load_day = load_day
        self._caller = random.getrandbits(60).to_bytes(8, "big")
        self._number = 0
        # What each shard was last seen to have met: should it know less one day, it has gone back.
        self._met: dict[Shard, int] = {}
        self._keys: dict[Shard, list[bytes]] = {}

    async def run(self, calls: Sequence[Call], least_seconds: float = 0) -> list[list[Any]]:
        """What each was answered, without the first word. They may take `least_seconds`, if that is more."""
        seconds = max(least_seconds, self.patience_seconds)
        answers: dict[int, list[Any]] = {}
        left = list(range(len(calls)))
        for _ in range(TRIES):
            again: list[int] = []
            lost: dict[int, Site] = {}
            days: dict[tuple[int, bool, str], Call] = {}
            for place, (word, *answer) in zip(
                left, await self._send([calls[place] for place in left], seconds), strict=True
            ):
                if word == b"done":
                    answers[place] = answer
                    continue
                again.append(place)
                call = calls[place]
                if word == b"lost":
                    lost[call.site.id] = call.site
                else:
                    day = answer[0].decode()
                    days[call.site.id, call.shard.bot, day] = call
            if not again:
                return [answers[place] for place in range(len(calls))]
            if lost:
                await self._fill(list(lost.values()))
                # Others were lost with it, which this process had not touched: they are counted again.
                again += [place for place in answers if calls[place].what == "count"]
            for (_, _, day), call in days.items():
                await self._load_day(call, day)
            left = again
        raise PresenceError("Redis loses what it is told")

    async def _send(self, calls: Sequence[Call], seconds: float) -> list[list[Any]]:
        numbers = [self._next(call) for call in calls]
        commands = [self._command(call, number) for call, number in zip(calls, numbers, strict=True)]
        answers: list[list[Any]] = []
        for first in range(0, len(calls), CALLS_AT_ONCE):
            answers += await self._pipeline(commands[first : first + CALLS_AT_ONCE], seconds)
        for call, number, answer in zip(calls, numbers, answers, strict=True):
            if answer[0] == b"done" and call.what not in _LEAVE_NO_NUMBER:
                self._met[call.shard] = max(self._met.get(call.shard, 0), number)
        return answers

    async def _pipeline(self, commands: Sequence[Sequence[Any]], seconds: float) -> list[Any]:
        try:
            async with asyncio.timeout(seconds):
                answers = await self._execute("EVALSHA", _SHA, commands)
                unknown = [place for place, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
                if unknown:
                    # A server that doesn't know the script has done nothing; this way it learns it.
                    told = await self._execute("EVAL", _SCRIPT, [commands[place] for place in unknown])
                    for place, answer in zip(unknown, told, strict=True):
                        answers[place] = answer
        except TimeoutError:
            raise PresenceError(f"Redis did not answer within {seconds:g} seconds") from None
        except (RedisError, RedisClusterException, OSError) as exc:
            raise PresenceError(f"Redis can't be reached: {exc}") from exc
        for answer in answers:
            if isinstance(answer, RedisError):
                raise PresenceError(f"Redis can't do what it was asked: {answer}") from answer
        return answers

    async def _execute(self, how: str, script: bytes | str, commands: Sequence[Sequence[Any]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(how, script, *command)
        answers: list[Any] = await pipeline.execute(raise_on_error=False)
        return answers

    def _next(self, call: Call) -> int:
        self._number = max(self._number + 1, call.now)
        return self._number

    def _command(self, call: Call, number: int) -> Sequence[Any]:
        keys = self._keys.get(call.shard)
        if keys is None:
            keys = self._keys[call.shard] = [self._key(call.shard, name) for name in _KEYS]
        if call.days:
            keys = keys + [self._key(call.shard, day) for day in call.days]
        met = 0 if call.what == "fill" else self._met.get(call.shard, _NEVER)
        window_ms, gap_ms = call.site.window_seconds * 1000, call.site.visit_gap_seconds * 1000
        head = _HEAD.pack(self._caller, number, met, call.now, window_ms, gap_ms, 8 * LONGEST_TRAIL, META_MS)
        return (len(keys), *keys, call.what, head, *call.arguments)

    def _key(self, shard: Shard, name: str) -> bytes:
        return f"{self._prefix}:{{{shard}}}:{name}".encode()
