"""Who a visitor is: a keyed hash that lasts one local day of one site, and nothing more."""

from hashlib import blake2b

from statsvc.address import network_of
from statsvc.model import Identity, Sender

SECRET_BYTES = 32
HOUSEHOLD_PREFIX_V6 = 64
"""What of an IPv6 address tells visitors apart: inside of it, addresses rotate."""
# Two of CPython's 30-bit digits: such an int takes 32 bytes, one of 63 bits takes 48.
ID_BITS = 60


def identify(sender: Sender, secret: bytes, neighbours: tuple[bytes, ...] = ()) -> Identity:
    """The sender's identity under the secret of the site's local day.

    `neighbours` are the secrets of the days before and after under which a visit may still be open.
    The hash is BLAKE2b with a key (RFC 7693) over the address and the User-Agent, 60 bits of it: that
    any two of a million visitors of a day are taken for one has a chance of one in two million.
    """
    who = f"{network_of(sender.address, HOUSEHOLD_PREFIX_V6)}\n{sender.user_agent}".encode(errors="replace")
    formerly = tuple([_hash(who, other) for other in neighbours]) if neighbours else ()
    return Identity(_hash(who, secret), formerly)


def _hash(who: bytes, secret: bytes) -> int:
    return int.from_bytes(blake2b(who, key=secret, digest_size=8).digest(), "big") >> 64 - ID_BITS
