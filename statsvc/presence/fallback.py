"""A shared presence, and what each node does by itself while that can't be reached."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress

import msgspec

from statsvc.announcements import Announcer, Fault, PresenceFound, PresenceLost
from statsvc.errors import PresenceError, Unreachable
from statsvc.model import Hit, Moment, Site
from statsvc.ports import Store, Touched
from statsvc.presence.memory import MemoryPresence
from statsvc.presence.redis import RedisPresence

GONE = (PresenceError, Unreachable)
"""The shared presence can't be reached; or it knows too little, and so can't the store."""
RETRY_MS = 1000
"""From one attempt to reach the shared presence again to the next."""


class FallbackPresence:
    """Implements `ports.Presence` over one that may be gone: then one batch waits for a call's time, no more.

    While it is gone the node decides by itself what an event begins, from what all nodes had committed until
    then and from what it sees: so a visitor who changes nodes meanwhile begins a visit on each. Who is
    current is not known then, as others see events too.

    It is looked for again once a second, and told what was committed meanwhile before it is used.
    """

    def __init__(self, shared: RedisPresence, store: Store, announce: Announcer) -> None:
        self._shared = shared
        self._store = store
        self._announce = announce
        self._sites: Iterable[Site] = ()
        self._lost = False
        self._own: MemoryPresence | None = None
        """This node's own, once an event needed it."""
        self._looking: asyncio.Task[None] | None = None
        self._found = False
        """It was reached again and knows what was committed, but for the journals below."""
        self._looked_ms = 0
        self._told = ""
        self._returning = asyncio.Lock()
        self._journals: list[bytes] = []
        """What it may not know: of the batches since the store was read for it, and of the one before."""
        self._may_be_ahead = False
        """It may know of a batch that was not committed."""

    async def open(self, sites: Iterable[Site], now: Moment) -> None:
        self._sites = sites
        self._journals.clear()
        if not self._lost:
            try:
                await self._shared.open(sites, now)
            except PresenceError as exc:
                self.lose(exc, now)
        if self._lost:
            self._may_be_ahead = True
            await self._stop_looking()
            own = MemoryPresence(self._store, self._shared.process)
            await own.open(sites, now)
            self._own = own

    async def touch(self, hits: Sequence[Hit]) -> Touched:
        now = hits[-1].at
        if self._lost:
            if not self._may_be_ahead:
                self._shared.settle()
            self._look_for_it(now)
        await self._return(now)
        if not self._lost:
            try:
                await self._tell(len(self._journals), now)
                return await self._shared.touch(hits)
            except GONE as exc:
                self.lose(exc, now)
        if self._own is None:
            self._own = await self._remembered(now)
        touched = await self._own.touch(hits)
        if self._lost and self._looking is None:
            self._journals.clear()
        self._journals.append(touched.open_visits)
        return msgspec.structs.replace(
            touched,
            current=dict.fromkeys(touched.current),
            pages=dict.fromkeys(touched.pages),
            peaks={},
        )

    async def current(self, site: Site, now: Moment) -> int | None:
        await self._return(now)
        if not self._lost:
            try:
                return await self._shared.current(site, now)
            except GONE as exc:
                self.lose(exc, now)
        self._look_for_it(now)
        return None

    async def current_on(self, site: Site, paths: Sequence[str], now: Moment) -> Sequence[int | None]:
        if not self._lost:
            try:
                return await self._shared.current_on(site, paths, now)
            except GONE as exc:
                self.lose(exc, now)
        return [None] * len(paths)

    def is_known(self) -> bool:
        return not self._lost

    def open_visits(self) -> int:
        return 0 if self._own is None else self._own.open_visits()

    def window_entries(self) -> int:
        return 0 if self._own is None else self._own.window_entries()

    async def trim(self, now: Moment) -> None:
        if self._own is not None:
            await self._own.trim(now)
        if not self._lost:
            try:
                await self._shared.trim(now)
            except GONE as exc:
                self.lose(exc, now)

    def lose(self, exc: PresenceError | Unreachable, now: Moment) -> None:
        """Redis was found to be gone, or to know too little."""
        if not self._lost:
            self._lost = True
            self._own = None
            self._looked_ms = now.steady_ms
            self._announce(PresenceLost(str(exc)))

    async def close(self) -> None:
        await self._stop_looking()

    async def _remembered(self, now: Moment) -> MemoryPresence:
        """What the store's journal says; nothing, where that can't be reached either: the node counts on."""
        own = MemoryPresence(self._store, self._shared.process)
        with suppress(Unreachable):
            await own.open(self._sites, now)
        return own

    def _look_for_it(self, now: Moment) -> None:
        due = now.steady_ms - self._looked_ms >= RETRY_MS
        if self._looking is None and due:
            self._looked_ms = now.steady_ms
            del self._journals[:-1]
            self._looking = asyncio.create_task(self._look(now))

    async def _look(self, now: Moment) -> None:
        try:
            await self._shared.open(self._sites, now)
        except GONE:
            self._looking = None
        except Exception as exc:  # noqa: BLE001 - the next attempt may do better, whatever it was
            self._looking = None
            if self._told != str(exc):  # and told once, not every second
                self._told = str(exc)
                self._announce(Fault.of("shared presence", exc))
        else:
            self._found = True
            self._told = ""

    async def _return(self, now: Moment) -> None:
        """Use it again. The latest batch may not be committed: it is told of that before the next."""
        async with self._returning:
            if not self._found:
                return
            try:
                await self._tell(len(self._journals) - 1, now)
            except GONE:
                await self._stop_looking()
            else:
                self._lost = self._found = self._may_be_ahead = False
                self._looking = self._own = None
                self._announce(PresenceFound())

    async def _tell(self, journals: int, now: Moment) -> None:
        """Of so many of them."""
        if journals > 0:
            await self._shared.learn(self._journals[:journals], now)
            del self._journals[:journals]

    async def _stop_looking(self) -> None:
        looking, self._looking, self._found = self._looking, None, False
        if looking is not None:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
