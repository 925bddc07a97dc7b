"""Which address a request came from: the peer's, unless the peer is a proxy the operator trusts."""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from msgspec import Struct

Network = IPv4Network | IPv6Network

LOCAL = tuple(
    ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""This machine and its own networks: where a proxy in front of the service has its address."""

_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 one (RFC 4291, section 2.5.5.2)."""
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(rf"\s*(?:({_NAME})=([^\s\",;\\]+|\"(?:[^\"\\]|\\.)*\"))?\s*(;|,|$)")
"""A parameter of an element of Forwarded (RFC 7239, section 4), and what follows it."""


class Reason(StrEnum):
    """Why an address is believed to be a request's: sentences for the operator, which name no address."""

    NOT_FORWARDED = "it is the peer's, which sent no forwarding header"
    NOT_TRUSTED = "it is the peer's, which is no trusted proxy"
    PROXY_ALONE = "it is a trusted proxy's, which sent no forwarding header"
    NO_ADDRESS = "it is a trusted proxy's, whose {} ends in no address"
    DISAGREEING = (
        "it is a trusted proxy's: X-Forwarded-For and Forwarded disagree, and neither is believed;"
        " let the proxy set one and remove the other"
    )
    FORWARDED = "{} has it, and trusted proxies wrote it: {}"


class Client(Struct, frozen=True, gc=False):
    """Where a request came from, and why that is believed."""

    address: str
    reason: Reason
    proxies: int = 0
    """How many trusted proxies it went through; with none, the address is the peer's own."""
    header: str = ""
    """What was read, if anything."""

    @property
    def disputed(self) -> bool:
        """Whether a trusted proxy sent headers that can't be believed: they may be the client's own work."""
        return self.reason in (Reason.NO_ADDRESS, Reason.DISAGREEING)

    @property
    def why(self) -> str:
        """The reason as a sentence."""
        return self.reason.format(self.header, self.proxies)


def client_of(
    peer: str, forwarded_for: Sequence[str], forwarded: Sequence[str], trusted: Callable[[str], bool]
) -> Client:
    """The client behind `peer`.

    `forwarded_for` holds the values of the X-Forwarded-For headers in their order, `forwarded` those of
    the Forwarded headers (RFC 7239); `trusted` says whether an address is a trusted proxy's. Every proxy
    appends the address it was called from, so a list is walked from the right for as long as the address
    in hand belongs to a trusted proxy. Who calls from elsewhere can write into the lists what they like:
    they are not read. An entry that is no address ends the walk. A proxy that appends to one header may
    pass the other on as the client wrote it: where the two disagree, neither is believed.
    """
    sent = bool(forwarded_for or forwarded)
    address = _peer(peer)
    if address is None or not trusted(address):
        return Client(address or peer, Reason.NOT_TRUSTED if sent else Reason.NOT_FORWARDED)
    if not sent:
        return Client(address, Reason.PROXY_ALONE)
    hops = ",".join(forwarded_for).split(",") if forwarded_for else []
    nodes = [node for value in forwarded for node in _nodes(value)] if forwarded else []
    header = "X-Forwarded-For" if hops else "Forwarded"
    found, proxies = _walk(address, hops or nodes, trusted)
    if hops and nodes and _walk(address, nodes, trusted)[0] != found:
        return Client(address, Reason.DISAGREEING)
    if not proxies:
        return Client(address, Reason.NO_ADDRESS, 0, header)
    return Client(found, Reason.FORWARDED, proxies, header)


def among(networks: Iterable[Network]) -> Callable[[str], bool]:
    """What tells whether an address is in one of these. It remembers: those that are asked about are few."""
    networks = tuple(networks)

    @lru_cache(maxsize=1024)
    def is_in(address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in networks)

    return is_in


is_local = among(LOCAL)
"""Whether it is an address of this machine or of its own networks."""


def parse(text: str) -> str | None:
    """The address in what proxies write: also with a port, in brackets, or IPv4 inside IPv6."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        if ":" not in text:
            inet_pton(AF_INET, text)  # takes it as `ip_address` does, and a twentieth of the time
            return text
        packed = inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    return _ipv6(packed)


_peer = lru_cache(maxsize=1024)(parse)  # proxies, which are few, and where there is none, readers lately


def network_of(address: str, prefix_v6: int) -> str:
    """The network of so many bits (whole bytes) that an IPv6 address is in; an IPv4 address as it is."""
    if ":" not in address:
        return address
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except (OSError, ValueError):
        return address
    if packed.startswith(_MAPPED):
        return _ipv6(packed)
    kept = prefix_v6 // 8
    return inet_ntop(AF_INET6, packed[:kept] + bytes(16 - kept))


def _ipv6(packed: bytes) -> str:
    """As it is written; one that stands for an IPv4 address as that."""
    if packed.startswith(_MAPPED):
        return inet_ntop(AF_INET, packed[len(_MAPPED) :])
    return inet_ntop(AF_INET6, packed)


def _walk(address: str, hops: list[str], trusted: Callable[[str], bool]) -> tuple[str, int]:
    """The first address from the right that is no trusted proxy's, and how many proxies were passed."""
    proxies = 0
    for hop in reversed(hops):
        if not trusted(address) or (before := parse(hop)) is None:
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
