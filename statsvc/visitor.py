"""Who a visitor is: a keyed hash that lasts one local day of one site, and nothing more."""

from hashlib import blake2b
from ipaddress import IPv6Address, ip_address

from statsvc.model import Identity, Sender

SECRET_BYTES = 32
# Two of CPython's 30-bit digits: such an int takes 32 bytes, one of 63 bits takes 48.
ID_BITS = 60


def identify(sender: Sender, secret: bytes, neighbours: tuple[bytes, ...] = ()) -> Identity:
    """The sender's identity under the secret of the site's local day.

    `neighbours` are the secrets of the days before and after under which a visit may still be open.
    The hash is BLAKE2b with a key (RFC 7693) over the address and the User-Agent, 60 bits of it: that
    any two of a million visitors of a day are taken for one has a chance of one in two million.
    """
    who = f"{network_of(sender.address)}\n{sender.user_agent}".encode(errors="replace")
    return Identity(_hash(who, secret), tuple(_hash(who, other) for other in neighbours))


def _hash(who: bytes, secret: bytes) -> int:
    return int.from_bytes(blake2b(who, key=secret, digest_size=8).digest(), "big") >> 64 - ID_BITS


def network_of(address: str) -> str:
    """What of an address tells visitors apart: IPv4 whole, IPv6 its /64 (inside it, addresses rotate)."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> 64 << 64))
    return address
