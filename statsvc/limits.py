"""How many events one visitor and one network may send: token buckets, in bounded memory.

A visitor is an address and a User-Agent, so a class on equal machines behind one address is one
visitor, and a school one network: the defaults in `config.py` are sized for that.
"""

from collections.abc import Hashable
from math import ceil
from typing import NamedTuple

from statsvc.address import network_of
from statsvc.errors import TooManyEvents
from statsvc.model import Moment, Sender
from statsvc.visitor import HOUSEHOLD_PREFIX_V6

BUCKETS = 100_000
"""Buckets held of each kind at most: those of about so many of the latest senders. Some 15 MB."""
CUSTOMER_PREFIX_V6 = 48
"""What a provider gives to one customer at most (RFC 6177); who has it has all the addresses in it."""


class Limit(NamedTuple):
    """A bucket of `burst` events that fills up again at `per_second`."""

    per_second: float
    burst: int


class Limits:
    """A limit that is None is not enforced."""

    def __init__(self, visitor: Limit | None, network: Limit | None) -> None:
        self._visitors = visitor and _Buckets(visitor)
        self._networks = network and _Buckets(network)

    def admit(self, sender: Sender, now: Moment) -> None:
        """Take an event's token from both of the sender's buckets. Raises TooManyEvents.

        Who may be a proxy that the operator has not declared is let pass: it would be all the portal's
        readers that were refused.
        """
        if sender.unproxied:
            return
        # The network first: then one machine with ever new User-Agents can't fill the visitors' memory.
        network = network_of(sender.address, CUSTOMER_PREFIX_V6)
        if self._networks and (wait := self._networks.take(network, now.steady_ms)):
            raise TooManyEvents("network", ceil(wait / 1000))
        if self._visitors:
            visitor = hash((network_of(sender.address, HOUSEHOLD_PREFIX_V6), sender.user_agent))
            if wait := self._visitors.take(visitor, now.steady_ms):
                if self._networks:  # one visitor must not use up what is everybody's there
                    self._networks.give_back(network)
                raise TooManyEvents("visitor", ceil(wait / 1000))


class _Buckets:
    """The generic cell rate algorithm (ITU-T I.371): of a bucket only the time is kept when it is full again.

    There are two generations. When the younger is full, the older one is let go of: who has sent nothing
    for that long begins with a full bucket.
    """

    def __init__(self, limit: Limit) -> None:
        self._interval_ms = 1000 / limit.per_second
        self._room_ms = self._interval_ms * (limit.burst - 1)
        self._generation = BUCKETS // 2
        self._young: dict[Hashable, float] = {}
        self._old: dict[Hashable, float] = {}

    def take(self, key: Hashable, now_ms: int) -> float:
        """Take a token, if there is one: 0; else how many milliseconds there will be none."""
        full_at = self._young.get(key) or self._old.get(key) or now_ms
        wait = full_at - now_ms - self._room_ms
        if wait > 0:
            return wait
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[key] = max(now_ms, full_at) + self._interval_ms
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """What was taken last."""
        self._young[key] -= self._interval_ms
