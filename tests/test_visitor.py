import pytest

from statsvc.model import Sender
from statsvc.visitor import ID_BITS, SECRET_BYTES, identify

SECRET, OTHER = bytes(SECRET_BYTES), bytes([1]) * SECRET_BYTES
READER = Sender("203.0.113.7", "Mozilla/5.0")


def test_the_same_sender_is_the_same_visitor():
    """Under one secret an address and a User-Agent are one visitor, and another of either is another."""
    visitor = identify(READER, SECRET).visitor
    assert identify(Sender("203.0.113.7", "Mozilla/5.0"), SECRET).visitor == visitor
    assert identify(Sender("203.0.113.8", "Mozilla/5.0"), SECRET).visitor != visitor
    assert identify(Sender("203.0.113.7", "Mozilla/5.1"), SECRET).visitor != visitor


def test_ids_of_two_secrets_cannot_be_linked():
    """Another secret, another id; and it fits the stores' signed integers."""
    visitors = {identify(READER, bytes([n]) * SECRET_BYTES).visitor for n in range(100)}
    assert len(visitors) == 100
    assert all(0 <= visitor < 2**ID_BITS for visitor in visitors)


def test_neighbouring_secrets_tell_who_the_visitor_was():
    """The id of a neighbouring day is the one that was used on it."""
    assert identify(READER, SECRET, (OTHER,)).formerly == (identify(READER, OTHER).visitor,)


def test_an_unencodable_user_agent_is_a_visitor():
    """Bytes that are no text, as aiohttp decodes them, do not raise."""
    assert identify(Sender("203.0.113.7", "\udcff\ud800"), SECRET).visitor >= 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("203.0.113.7", "203.0.113.8", False),
        ("::ffff:203.0.113.7", "203.0.113.7", True),
    ],
)
def test_ipv6_visitors_are_one_per_64(one, other, same):
    """Inside an IPv6 /64 addresses rotate and are one visitor; IPv4 counts whole."""
    assert (identify(Sender(one, "a"), SECRET) == identify(Sender(other, "a"), SECRET)) == same
