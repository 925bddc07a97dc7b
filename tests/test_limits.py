from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc import limits as limits_module
from statsvc.address import network_of
from statsvc.config import load_settings
from statsvc.errors import TooManyEvents
from statsvc.limits import CUSTOMER_PREFIX_V6, Limit, Limits
from statsvc.model import Moment, Sender
from tests.facts import FakeClock
from tests.process import CHROME

OPERATE = (Path(__file__).parent.parent / "docs" / "operate.md").read_text()
STREET = "203.0.113.7"


def refused(limits: Limits, sender: Sender, now: Moment) -> str:
    """By which limit; empty for none."""
    try:
        limits.admit(sender, now)
    except TooManyEvents as exc:
        return exc.limit if exc.retry_after_seconds >= 1 else "at once"
    return ""


@given(
    rate=st.integers(1, 50),
    burst=st.integers(1, 100),
    gaps_ms=st.lists(st.integers(0, 400), min_size=1, max_size=300),
)
def test_no_stretch_of_time_has_more_than_the_burst_and_the_rate(rate, burst, gaps_ms):
    """Between any two admitted events there are never more than burst + rate x time; others are not refused."""
    limits, clock = Limits(Limit(rate, burst), None), FakeClock(0)
    admitted: list[int] = []
    tokens = float(burst)  # a bucket as one writes it by hand
    for gap in gaps_ms:
        now = clock.advance(gap / 1000)
        tokens = min(burst, tokens + rate * gap / 1000)
        if not refused(limits, Sender(STREET, CHROME), now):
            admitted.append(now.steady_ms)
            tokens -= 1
            assert tokens > -0.01
        else:
            assert tokens < 1.01
    for first, began in enumerate(admitted):
        for count, ended in enumerate(admitted[first:], start=1):
            assert count <= burst + rate * (ended - began) / 1000 + 0.01


def test_the_wait_that_is_told_is_long_enough_and_not_much_longer(clock):
    """Who comes back when told is taken."""
    limits, sender = Limits(Limit(0.1, 1), None), Sender(STREET, CHROME)
    limits.admit(sender, clock.now())
    with pytest.raises(TooManyEvents) as raised:
        limits.admit(sender, clock.advance(1))
    assert raised.value.retry_after_seconds == 9
    limits.admit(sender, clock.advance(9))


def test_one_network_with_ever_new_user_agents_meets_the_networks_limit(clock):
    """And each visitor its own, at no cost to its neighbours; another network is not concerned."""
    limits = Limits(Limit(1, 2), Limit(1, 5))
    said = [refused(limits, Sender(STREET, "one"), clock.now()) for _ in range(20)]
    assert said == ["", "", *["visitor"] * 18]
    said = [refused(limits, Sender(STREET, f"{n}"), clock.now()) for n in range(4)]
    assert said == ["", "", "", "network"]
    assert not refused(limits, Sender("203.0.113.8", "one"), clock.now())


def test_ipv6_visitors_are_one_in_a_64_and_networks_in_a_48():
    """An address rotates inside its /64, and a customer has a whole /48."""
    assert (
        network_of("2001:db8:1:2:3::4", CUSTOMER_PREFIX_V6)
        == network_of("2001:db8:1:ff::", CUSTOMER_PREFIX_V6)
        == "2001:db8:1::"
    )
    assert network_of("2001:db8:2::", CUSTOMER_PREFIX_V6) != "2001:db8:1::"
    assert network_of("203.0.113.7", CUSTOMER_PREFIX_V6) == "203.0.113.7"


def test_who_may_be_an_undeclared_proxy_is_not_limited(clock):
    """It would be all the portal's readers."""
    limits = Limits(Limit(1, 1), Limit(1, 1))
    proxy = Sender("172.18.0.1", CHROME, unproxied=True)
    assert not any(refused(limits, proxy, clock.now()) for _ in range(10))


def test_memory_is_bounded_and_a_busy_bucket_outlives_idle_ones(clock, monkeypatch):
    """Ever new senders push out those who have been silent, never one who goes on sending."""
    monkeypatch.setattr(limits_module, "BUCKETS", 100)
    limits = Limits(None, Limit(0.001, 3))
    said: Counter[str] = Counter()
    for n in range(1000):
        said[refused(limits, Sender(STREET, CHROME), clock.now())] += n % 20 == 0
        limits.admit(Sender(f"198.51.{n // 250}.{n % 250}", CHROME), clock.now())
        assert limits._networks is not None
        assert len(limits._networks._young) + len(limits._networks._old) <= 100
    # It is refused from its fourth event on, so its bucket moves on only while it is let in.
    assert said["network"] >= 40


@pytest.mark.parametrize(("visitors", "most"), [(1, 37_200), (10**6, 114_000)])
def test_what_one_machine_can_add_in_an_hour_is_what_the_docs_say(clock, visitors, most):
    """At 200 events a second for an hour, under one User-Agent or ever new ones."""
    settings = load_settings({}, {})
    limits = Limits(settings.visitor_limit, settings.network_limit)
    admitted = 0
    for n in range(200 * 3600):
        sender = Sender(STREET, f"{CHROME} {n % visitors}")
        admitted += not refused(limits, sender, clock.advance(0.005))
    assert abs(admitted - most) < 50
    assert f"{most:,}" in OPERATE


def test_a_school_behind_one_address_never_meets_the_defaults(clock):
    """2,000 pupils, 500 of them at equal machines, open a page within a minute, read, and open five more."""
    settings = load_settings({}, {})
    limits = Limits(settings.visitor_limit, settings.network_limit)
    machines = [f"phone {n}" if n % 4 else "lab" for n in range(2000)]
    events = [(at, machine) for at, machine in zip(range(0, 60_000, 30), machines, strict=True)]
    for minutes in range(2, 60, 2):  # still reading
        events += [(at + minutes * 60_000, machine) for at, machine in events[:2000]]
    for minutes in range(5, 60, 10):  # the next page
        events += [(at + minutes * 60_000 + 7, machine) for at, machine in events[:2000]]
    began = clock.now()
    for at, machine in sorted(events):
        now = Moment(began.wall_ms + at, began.steady_ms + at)
        assert not refused(limits, Sender(STREET, machine), now), (at, machine)
