"""Which address a request came from: the peer's, unless the peer is a proxy the operator trusts."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Iterable[Network]) -> str:
    """The client's address.

    `forwarded_for` holds the values of the X-Forwarded-For headers in their order, each a list with
    commas. Every proxy appends the address it was called from, so the list is walked from the right
    for as long as the address in hand belongs to a trusted proxy. Who calls from elsewhere can write
    into the list what they like: it is not read. An entry that is no address ends the walk.
    """
    trusted = tuple(trusted)
    address = parse(peer)
    if not trusted or address is None:
        return peer
    hops = [hop for value in forwarded_for for hop in value.split(",")]
    while hops and any(address in network for network in trusted):
        before = parse(hops.pop())
        if before is None:
            break
        address = before
    return str(address)


def parse(text: str) -> IPv4Address | IPv6Address | None:
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
