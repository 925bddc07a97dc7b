"""The machine's clocks, and the one clock of a fleet."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from statsvc.errors import StoreError
from statsvc.model import Moment

_YEAR_MS = 366 * 24 * 3600 * 1000

ASKED_AT_START = 8
"""Of so many round trips the quickest tells most exactly what the time is."""
ASKED_LATER = 3
ASK_SECONDS = 30.0
"""How often the time is asked for again; machines' clocks go wrong by some milliseconds a minute at most."""
SLEW = 0.01
"""How much faster or slower the clock goes while it isn't right."""
FORWARD_STEP_NS = 1_000_000_000
"""A clock so far behind, as on a machine that was suspended, is set forward at once."""


class SystemClock:
    """Implements `ports.Clock`.

    The steady clock starts at a year, so that what was seen before this process started has a time too.
    """

    def __init__(self) -> None:
        self._origin_ns = time.monotonic_ns()

    def now(self) -> Moment:
        steady_ms = (time.monotonic_ns() - self._origin_ns) // 1_000_000 + _YEAR_MS
        return Moment(time.time_ns() // 1_000_000, steady_ms)


class FleetClock:
    """Implements `ports.Clock` for nodes that share a store: all show the time of the store's server.

    Both of its clocks are that one time, carried on by this machine's monotonic clock, whatever its wall
    clock says, and also while the server can't be asked. It never goes back.
    """

    def __init__(
        self, ask_ms: Callable[[], Awaitable[int]], monotonic_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`ask_ms` tells the server's time, in milliseconds since the epoch, or raises StoreError."""
        self._ask_ms = ask_ms
        self._monotonic_ns = monotonic_ns
        self._as_of_ns = 0
        self._offset_ns = 0
        """What this clock was ahead of the monotonic one then."""
        self._error_ns = 0
        """What was still to be made up then."""

    def now(self) -> Moment:
        now_ns = self._monotonic_ns()
        ms = (now_ns + self._offset_at(now_ns)) // 1_000_000
        return Moment(ms, ms)

    async def open(self) -> None:
        """Show the server's time. Raises StoreError."""
        self._offset_ns = await self._measure(ASKED_AT_START)
        self._as_of_ns, self._error_ns = self._monotonic_ns(), 0

    async def correct(self) -> None:
        """Make up, little by little, for how far this clock is from the server's. Raises StoreError."""
        measured_ns = await self._measure(ASKED_LATER)
        now_ns = self._monotonic_ns()
        self._offset_ns = self._offset_at(now_ns)
        self._as_of_ns, self._error_ns = now_ns, measured_ns - self._offset_ns
        if self._error_ns >= FORWARD_STEP_NS:
            self._offset_ns, self._error_ns = measured_ns, 0

    async def follow(self) -> None:
        """Correct the clock again and again, until this is cancelled."""
        while True:
            await asyncio.sleep(ASK_SECONDS)
            with suppress(StoreError):  # that the store is away is told elsewhere
                await self.correct()

    def _offset_at(self, now_ns: int) -> int:
        most_ns = int((now_ns - self._as_of_ns) * SLEW)
        return self._offset_ns + max(-most_ns, min(most_ns, self._error_ns))

    async def _measure(self, times: int) -> int:
        """How far the server's clock is ahead of the monotonic one; its answer lies within the round trip."""
        quickest_ns, offset_ns = None, 0
        for _ in range(times):
            asked_ns = self._monotonic_ns()
            server_ns = await self._ask_ms() * 1_000_000 + 500_000  # it cuts off what is below a millisecond
            round_ns = self._monotonic_ns() - asked_ns
            if quickest_ns is None or round_ns < quickest_ns:
                quickest_ns, offset_ns = round_ns, server_ns - asked_ns - round_ns // 2
        return offset_ns
