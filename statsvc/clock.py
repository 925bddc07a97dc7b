"""The machine's clocks."""

import time

from statsvc.model import Moment

_YEAR_MS = 366 * 24 * 3600 * 1000


class SystemClock:
    """Implements `ports.Clock`.

    The steady clock starts at a year, so that what was seen before this process started has a time too.
    """

    def __init__(self) -> None:
        self._origin_ns = time.monotonic_ns()

    def now(self) -> Moment:
        steady_ms = (time.monotonic_ns() - self._origin_ns) // 1_000_000 + _YEAR_MS
        return Moment(time.time_ns() // 1_000_000, steady_ms)
