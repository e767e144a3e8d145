"""What both firewalls ask of addresses. Knows no rule."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

Network = IPv4Network | IPv6Network
LINK_LOCAL = IPv6Network("fe80::/10")


@lru_cache(maxsize=4096)
def collapsed(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Without what lies in another. Remembered: many rules have the same peers, and working it out was a third of what
    a host's manifest takes. What follows a `%` may be anything, and Python gives it back as it was: an error here."""
    networks = [ip_network(unscoped(prefix)) for prefix in prefixes]
    six = [n for n in networks if isinstance(n, IPv6Network)]
    four = [n for n in networks if isinstance(n, IPv4Network)]
    return tuple(str(n) for n in (*collapse_addresses(six), *collapse_addresses(four)))


def common(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """What is in both; () of the first means everybody."""
    if not some:
        return others
    pairs = [(ip_network(a), ip_network(b)) for a in some for b in others]
    return tuple(str(max(pair, key=lambda n: n.prefixlen)) for pair in pairs if overlap(*pair))


def overlap(a: Network, b: Network) -> bool:
    return a.version == b.version and a.overlaps(b)


def link_locals(prefixes: Iterable[str]) -> bool:
    """Whether some are those of neighbours and routers (RFC 4861)."""
    return any(overlap(ip_network(prefix), LINK_LOCAL) for prefix in prefixes)


def unscoped(address: str) -> str:
    if "%" in address:
        raise ValueError(f"an address with a scope: {address!r}")
    return address


def link_local(mac: str) -> str:
    """The address the kernel derives (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
