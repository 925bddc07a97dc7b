"""Which address a request came from: the peer's, unless the peer is a proxy the operator trusts."""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOCAL = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""This machine and its own networks: where a proxy in front of the service has its address."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf"\s*(?:({_NAME})=([^\s\",;\\]+|\"(?:[^\"\\]|\\.)*\"))?\s*(;|,|$)")
"""A parameter of an element of Forwarded (RFC 7239, section 4), and what follows it."""


class Client(NamedTuple):
    """Where a request came from, and why that is believed."""

    address: str
    proxies: int
    """How many trusted proxies it went through; with none, the address is the peer's own."""
    why: str
    """A sentence for the operator; it names no address."""
    disputed: bool = False
    """Whether a trusted proxy sent headers that can't be believed: they may be the client's own work."""


def client_of(
    peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Iterable[Network]
) -> Client:
    """The client behind `peer`.

    `forwarded_for` holds the values of the X-Forwarded-For headers in their order, `forwarded` those of
    the Forwarded headers (RFC 7239). Every proxy appends the address it was called from, so a list is
    walked from the right for as long as the address in hand belongs to a trusted proxy. Who calls from
    elsewhere can write into the lists what they like: they are not read. An entry that is no address
    ends the walk. A proxy that appends to one header may pass the other on as the client wrote it: where
    the two disagree, neither is believed.
    """
    trusted = tuple(trusted)
    sent = bool(forwarded_for or forwarded)
    address = parse(peer)
    if address is None or not _is_in(address, trusted):
        if not sent:
            return Client(str(address or peer), 0, "it is the peer's, which sent no forwarding header")
        return Client(str(address or peer), 0, "it is the peer's, which is no trusted proxy")
    walks = [
        (name, _walk(address, hops, trusted))
        for name, hops in (
            ("X-Forwarded-For", [hop for value in forwarded_for for hop in value.split(",")]),
            ("Forwarded", [node for value in forwarded for node in _nodes(value)]),
        )
        if hops
    ]
    if not walks:
        return Client(str(address), 0, "it is a trusted proxy's, which sent no forwarding header")
    if len({found for _, (found, _) in walks}) > 1:
        return Client(
            str(address),
            0,
            "it is a trusted proxy's: X-Forwarded-For and Forwarded disagree, and neither is believed;"
            " let the proxy set one and remove the other",
            disputed=True,
        )
    name, (found, proxies) = walks[0]
    if not proxies:
        why = f"it is a trusted proxy's, whose {name} ends in no address"
        return Client(str(address), 0, why, disputed=True)
    return Client(str(found), proxies, f"{name} has it, and trusted proxies wrote it: {proxies}")


def is_local(address: str) -> bool:
    """Whether it is an address of this machine or of its own networks."""
    parsed = parse(address)
    return parsed is not None and _is_in(parsed, LOCAL)


def parse(text: str) -> Address | None:
    """An address as proxies write it: also with a port, in brackets, or IPv4 inside IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _walk(address: Address, hops: list[str], trusted: Sequence[Network]) -> tuple[Address, int]:
    """The first address from the right that is no trusted proxy's, and how many proxies were passed."""
    proxies = 0
    while hops and _is_in(address, trusted):
        before = parse(hops.pop())
        if before is None:
            break
        address, proxies = before, proxies + 1
    return address, proxies


def _nodes(value: str) -> list[str]:
    """Whom each element of a Forwarded header was sent by; empty for one that doesn't say.

    A client's words stand in it, in its own elements and, quoted, in those of proxies that tell what
    host it asked for. So it is read by the grammar, and where it isn't of the grammar, not at all.
    """
    nodes: list[str] = []
    element: list[str] = []
    place = 0
    while True:
        found = _PAIR.match(value, place)
        if found is None:
            return [""]
        name, node, end = found.groups()
        if name is not None and name.lower() == "for":
            element.append(node.strip('"'))
        if end != ";":
            nodes.append(element[0] if len(element) == 1 else "")
            element = []
        if not end:
            return nodes
        place = found.end()


def _is_in(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
