from ipaddress import ip_network

import pytest

from statsvc.address import client_address, parse

PROXIES = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("198.51.100.1", ["203.0.113.7"], "198.51.100.1"),  # not a proxy: what it says is not read
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.2.3.4, 203.0.113.7"], "203.0.113.7"),  # the client wrote 1.2.3.4 itself
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7", "10.0.0.2"], "203.0.113.7"),  # two headers are one list
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["garbage"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.7, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("2001:db8::1", ["[2001:470::7]:4711"], "2001:470::7"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_the_first_address_from_the_right_that_is_no_trusted_proxy(peer, forwarded_for, client):
    """X-Forwarded-For is believed only as far as trusted proxies wrote it."""
    assert client_address(peer, forwarded_for, PROXIES) == client


def test_by_default_nobody_is_trusted():
    """Without trusted proxies the peer is the client."""
    assert client_address("10.0.0.1", ["203.0.113.7"], ()) == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[", "::g"])
def test_what_is_no_address_is_none(text):
    """Proxies write words where they hide an address."""
    assert parse(text) is None
