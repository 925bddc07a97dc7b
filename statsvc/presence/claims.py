"""Which events' ids are counted, or in hand, on any node: in Redis, for an hour."""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from statsvc.errors import PresenceError, StoreError
from statsvc.model import Moment
from statsvc.ports import Store
from statsvc.presence import redis
from statsvc.presence.fallback import FallbackPresence

CLAIM_SECONDS = 3600
"""How long an id is known to all nodes. The node that counted it knows it for longer."""
IN_HAND_MS = 15_000
"""A node that has had an event in hand for so long has ended, or told its sender that it failed."""
_COUNTED = b"1"
_TAKE_OVER = (
    "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end"
    " redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) return 1"
)


class RedisClaims:
    """Implements `ports.Claims`, but raises PresenceError where Redis can't be reached.

    An id's value is who has it in hand and since when, by the wall clock that nodes share; or that it is
    counted.
    """

    def __init__(
        self,
        client: Any,
        store: Store,
        prefix: str = "statsvc",
        patience_seconds: float | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._prefix = prefix
        self._patience_seconds = redis.PATIENCE_SECONDS if patience_seconds is None else patience_seconds
        self._node = b"%x" % random.getrandbits(60)

    async def claim(self, receipts: Sequence[int], now: Moment) -> Mapping[int, bool]:
        mine = b"%s:%d" % (self._node, now.wall_ms)
        done = await self._ask([self._set(receipt, mine, "NX") for receipt in receipts])
        taken = [receipt for receipt, ok in zip(receipts, done, strict=True) if not ok]
        values = await self._ask([("GET", self._key(receipt)) for receipt in taken])
        others = {}
        stale: dict[int, bytes] = {}
        for receipt, value in zip(taken, values, strict=True):
            others[receipt] = value == _COUNTED
            if value and value != _COUNTED and self._is_stale(value, now):
                stale[receipt] = value
        if stale:
            await self._decide(stale, mine, others)
        return others

    async def settle(self, counted: Collection[int], free: Collection[int]) -> None:
        await self._ask(
            [self._set(receipt, _COUNTED) for receipt in counted]
            + [("DEL", self._key(receipt)) for receipt in free]
        )

    def _is_stale(self, value: bytes, now: Moment) -> bool:
        node, _, since_ms = value.partition(b":")
        return node == self._node or now.wall_ms - int(since_ms) >= IN_HAND_MS

    async def _decide(self, stale: Mapping[int, bytes], mine: bytes, others: dict[int, bool]) -> None:
        """Of ids whose node has ended, or given up: the store knows whether they are counted."""
        try:
            committed = set(await self._store.receipts())
        except StoreError:
            return
        free = [receipt for receipt in stale if receipt not in committed]
        told = [
            ("EVAL", _TAKE_OVER, 1, self._key(receipt), stale[receipt], mine, CLAIM_SECONDS)
            for receipt in free
        ]
        for receipt, is_mine in zip(free, await self._ask(told), strict=True):
            if is_mine:
                del others[receipt]
        counted = [receipt for receipt in stale if receipt in committed]
        others |= dict.fromkeys(counted, True)
        await self.settle(counted, ())

    def _key(self, receipt: int) -> str:
        return f"{self._prefix}:event:{receipt:x}"

    def _set(self, receipt: int, value: bytes, *how: str) -> tuple[Any, ...]:
        return ("SET", self._key(receipt), value, *how, "EX", CLAIM_SECONDS)

    async def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            async with asyncio.timeout(self._patience_seconds):
                answers: list[Any] = await pipeline.execute()
        except TimeoutError:
            raise PresenceError(f"Redis did not answer within {self._patience_seconds:g} seconds") from None
        except (RedisError, RedisClusterException, OSError) as exc:
            raise PresenceError(f"Redis can't be reached: {exc}") from exc
        return answers


class FallbackClaims:
    """Implements `ports.Claims`; where Redis is gone, as `presence` knows it, each node decides by itself."""

    def __init__(self, shared: RedisClaims, presence: FallbackPresence) -> None:
        self._shared = shared
        self._presence = presence
        self._settling: asyncio.Task[None] | None = None

    async def claim(self, receipts: Sequence[int], now: Moment) -> Mapping[int, bool] | None:
        if self._settling is not None:
            await self._settling
        if not self._presence.is_known():
            return None
        try:
            return await self._shared.claim(receipts, now)
        except PresenceError as exc:
            self._presence.lose(exc, now)
            return None

    def settle(self, counted: Collection[int], free: Collection[int]) -> None:
        if self._presence.is_known():
            self._settling = asyncio.create_task(self._settle(counted, free))

    async def _settle(self, counted: Collection[int], free: Collection[int]) -> None:
        # What is not settled now is in hand for a while, and then the store is asked.
        with suppress(PresenceError):
            await self._shared.settle(counted, free)

    async def close(self) -> None:
        if self._settling is not None:
            await self._settling
