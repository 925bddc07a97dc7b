import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.clock import FORWARD_STEP_NS, SLEW, FleetClock, SystemClock
from statsvc.errors import StoreError
from tests.facts import NOON_MS

SECOND_NS = 1_000_000_000


def test_the_steady_clock_never_steps():
    """It moves with time, never back, and leaves room for what was seen before the start."""
    clock = SystemClock()
    moments = [clock.now() for _ in range(1000)]
    steady = [moment.steady_ms for moment in moments]
    assert steady == sorted(steady)
    assert steady[0] > 24 * 3600 * 1000
    assert abs(moments[-1].wall_ms - time.time() * 1000) < 1000


class Server:
    """Its clock, and a machine's monotonic one; the way there takes as long as it is told to."""

    def __init__(self) -> None:
        self.monotonic_ns = 7 * SECOND_NS
        self.ahead_ms = NOON_MS
        self.there_ns = self.back_ns = 0
        self.gone = False

    def advance(self, seconds: float) -> None:
        self.monotonic_ns += round(seconds * SECOND_NS)

    @property
    def time_ms(self) -> int:
        return self.ahead_ms + self.monotonic_ns // 1_000_000

    async def ask_ms(self) -> int:
        if self.gone:
            raise StoreError("connection refused")
        self.monotonic_ns += self.there_ns
        answer = self.time_ms
        self.monotonic_ns += self.back_ns
        return answer

    def clock(self) -> FleetClock:
        return FleetClock(self.ask_ms, lambda: self.monotonic_ns)


async def test_nodes_show_the_servers_time_whatever_their_own_is():
    """Within what a round trip leaves open; and both clocks of a moment are that time."""
    server = Server()
    server.there_ns, server.back_ns = 3_000_000, 1_000_000
    clock = server.clock()
    await clock.open()
    server.advance(3600)
    assert abs(clock.now().wall_ms - server.time_ms) <= 2
    assert clock.now().wall_ms == clock.now().steady_ms


async def test_of_several_answers_the_quickest_is_believed():
    """One that was held up on its way says little."""
    server = Server()
    clock = server.clock()
    delays = iter([900_000_000, 300_000_000, 1000, *[500_000_000] * 5])

    async def ask_ms() -> int:
        server.back_ns = next(delays)
        return await server.ask_ms()

    clock._ask_ms = ask_ms
    await clock.open()
    assert abs(clock.now().wall_ms - server.time_ms) <= 1


@pytest.mark.parametrize("off_ms", [-60_000, -500, 500])
async def test_what_is_wrong_is_made_up_for_slowly(off_ms):
    """One second in a hundred, until it is right."""
    server = Server()
    clock = server.clock()
    await clock.open()
    server.ahead_ms += off_ms
    await clock.correct()
    assert abs(clock.now().wall_ms + off_ms - server.time_ms) <= 1
    server.advance(10)
    assert abs(abs(clock.now().wall_ms - server.time_ms) - (abs(off_ms) - 10_000 * SLEW)) <= 2
    server.advance(abs(off_ms) / 1000 / SLEW)
    assert abs(clock.now().wall_ms - server.time_ms) <= 1


async def test_a_machine_that_slept_is_set_forward_at_once():
    """Its monotonic clock stood still; what it counts now must not be of the past."""
    server = Server()
    clock = server.clock()
    await clock.open()
    server.ahead_ms += FORWARD_STEP_NS // 1_000_000
    await clock.correct()
    assert abs(clock.now().wall_ms - server.time_ms) <= 1


async def test_while_the_server_is_gone_time_goes_on():
    """As it was last known; at a start there must be one that tells it."""
    server = Server()
    clock = server.clock()
    await clock.open()
    server.gone = True
    with pytest.raises(StoreError):
        await clock.correct()
    server.advance(600)
    assert abs(clock.now().wall_ms - server.time_ms) <= 1
    with pytest.raises(StoreError):
        await server.clock().open()


Step = tuple[float, int]


@given(steps=st.lists(st.tuples(st.floats(0, 100), st.integers(-200_000, 200_000)), max_size=30))
async def test_it_never_goes_back(steps: list[Step]):
    """Wherever the server's clock is set, as by a failover, and however often it is asked."""
    server = Server()
    clock = server.clock()
    await clock.open()
    seen = [clock.now()]
    for seconds, off_ms in steps:
        server.ahead_ms += off_ms
        await clock.correct()
        seen.append(clock.now())
        server.advance(seconds)
        seen.append(clock.now())
    assert seen == sorted(seen)
