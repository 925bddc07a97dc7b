from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statsvc.address import among, client_of, is_local, network_of, parse

PROXIES = among([ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


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
    assert client_of(peer, forwarded_for, [], PROXIES).address == client


def test_by_default_nobody_is_trusted():
    """Without trusted proxies the peer is the client."""
    assert client_of("10.0.0.1", ["203.0.113.7"], ["for=203.0.113.7"], among([])).address == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "[", "::g"])
def test_what_is_no_address_is_none(text):
    """Proxies write words where they hide an address."""
    assert parse(text) is None


@given(
    st.ip_addresses().map(str) | st.from_regex(r"[0-9.]{1,15}|[0-9a-f:]{1,39}", fullmatch=True) | st.text()
)
def test_an_address_is_what_pythons_own_parser_takes_for_one(text):
    """However it is written; IPv4 inside IPv6 as IPv4."""
    try:
        expected = ip_address(text.strip().partition("%")[0])
    except ValueError:
        return
    parsed = parse(text)
    assert parsed is not None
    assert ip_address(parsed) == (getattr(expected, "ipv4_mapped", None) or expected)


@given(st.ip_addresses(v=6), st.sampled_from([32, 48, 64]))
def test_a_network_is_the_first_bits_of_an_ipv6_address(address, prefix):
    """The others are nought."""
    network = network_of(str(address), prefix)
    if address.ipv4_mapped is None:
        assert IPv6Address(network) == IPv6Address(int(address) >> 128 - prefix << 128 - prefix)
    else:
        assert network == str(address.ipv4_mapped)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::"),
        ("not an address", "not an address"),
        ("unix:", "unix:"),
    ],
)
def test_what_has_no_network_is_its_own(address, network):
    """IPv4 counts whole, and so does what is no address."""
    assert network_of(address, 64) == network


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["for=203.0.113.7"], "203.0.113.7"),
        (["for=203.0.113.7;proto=https;by=10.0.0.1"], "203.0.113.7"),
        (["proto=https; For=203.0.113.7"], "203.0.113.7"),
        (['for="203.0.113.7:4711"'], "203.0.113.7"),
        (['for="[2001:470::7]:4711"'], "2001:470::7"),
        (["for=1.2.3.4, for=203.0.113.7, for=10.0.0.2"], "203.0.113.7"),
        (["for=1.2.3.4", "for=203.0.113.7"], "203.0.113.7"),
        (["for=203.0.113.7, for=_hidden"], "10.0.0.1"),
        (["for=203.0.113.7, proto=https"], "10.0.0.1"),
        (["for=203.0.113.7, for=unknown, for=10.0.0.2"], "10.0.0.2"),
        # What the client leaves open can't hide what the proxy appended, nor stand in for it.
        (['for="1.2.3.4', "for=203.0.113.7"], "203.0.113.7"),
        (['for=1.2.3.4, for=", for=203.0.113.7'], "10.0.0.1"),
        (['for=1.2.3.4, for=", for="[2001:470::7]"'], "10.0.0.1"),
        # What a proxy quotes of a client's words is no parameter and no element.
        (['for=203.0.113.7;host="x,for=9.9.9.9";proto=https'], "203.0.113.7"),
        (['host="a;for=9.9.9.9";for=203.0.113.7'], "203.0.113.7"),
        (['by="a;for=9.9.9.9";for=203.0.113.7'], "203.0.113.7"),
        (['for=203.0.113.7;host="h\\",for=9.9.9.9"'], "203.0.113.7"),
        (['x=", for=203.0.113.7;host="\\",for=9.9.9.9;y=\\""'], "10.0.0.1"),
        (["for=9.9.9.9;for=203.0.113.7"], "10.0.0.1"),
        (["for=203.0.113.7 for=9.9.9.9"], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (['for=1.2.3.4;x="\\", for="[2001:470::7]"'], "10.0.0.1"),
    ],
)
def test_forwarded_is_walked_the_same_way(forwarded, client):
    """RFC 7239's header is believed as far as trusted proxies wrote it."""
    assert client_of("10.0.0.1", [], forwarded, PROXIES).address == client


@pytest.mark.parametrize(
    ("forwarded_for", "forwarded", "client"),
    [
        (["203.0.113.7"], ["for=203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7, 10.0.0.9"], ["for=203.0.113.7"], "203.0.113.7"),
        (["203.0.113.7"], ["for=1.2.3.4"], "10.0.0.1"),
        (["1.2.3.4"], ["for=203.0.113.7"], "10.0.0.1"),
        (["203.0.113.7"], ["garbage"], "10.0.0.1"),
    ],
)
def test_headers_that_disagree_are_both_not_believed(forwarded_for, forwarded, client):
    """A proxy that sets one passes the other on as the client wrote it: nobody chooses an address so."""
    assert client_of("10.0.0.1", forwarded_for, forwarded, PROXIES).address == client


@given(st.lists(st.text(), max_size=3), st.lists(st.text(), max_size=3))
def test_whatever_a_client_sends_the_address_its_proxy_saw_is_never_replaced(forwarded_for, forwarded):
    """The proxy appends to X-Forwarded-For: then the client is that address, or all are the proxy's."""
    found = client_of("10.0.0.1", [*forwarded_for, "203.0.113.7"], forwarded, PROXIES)
    assert found.address in {"203.0.113.7", "10.0.0.1"}


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_words_of_a_client_are_taken_for_the_proxys(sent, host):
    """Before its element, or quoted in it: the address is the one that the proxy saw, or the proxy's."""
    quoted = host.replace("\\", "\\\\").replace('"', '\\"')
    found = client_of("10.0.0.1", [], [f'{sent}, for=203.0.113.7;host="{quoted}";proto=https'], PROXIES)
    assert found.address in {"203.0.113.7", "10.0.0.1"}
    assert found.disputed == (found.address == "10.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "forwarded", "proxies", "said"),
    [
        ("203.0.113.7", [], [], 0, "sent no forwarding header"),
        ("203.0.113.7", ["1.2.3.4"], [], 0, "no trusted proxy"),
        ("10.0.0.1", [], [], 0, "sent no forwarding header"),
        ("10.0.0.1", ["unknown"], [], 0, "X-Forwarded-For ends in no address"),
        ("10.0.0.1", ["203.0.113.7, 10.0.0.2"], [], 2, "X-Forwarded-For has it"),
        ("10.0.0.1", [], ["for=203.0.113.7"], 1, "Forwarded has it"),
        ("10.0.0.1", ["203.0.113.7"], ["for=1.2.3.4"], 0, "disagree"),
    ],
)
def test_the_reason_is_said(peer, forwarded_for, forwarded, proxies, said):
    """An operator reads why, without an address in it."""
    client = client_of(peer, forwarded_for, forwarded, PROXIES)
    assert client.proxies == proxies
    assert client.disputed == ("disagree" in said or "no address" in said)
    assert said in client.why
    assert client.address not in client.why


def test_networks_of_this_machine_are_local():
    """Where a proxy stands in front; test networks and the internet are not."""
    assert all(map(is_local, ("127.0.0.1", "::1", "10.1.2.3", "172.18.0.1", "192.168.1.1", "fd00::1")))
    assert not any(map(is_local, ("203.0.113.7", "172.32.0.1", "2001:db8::1", "no address", "")))
