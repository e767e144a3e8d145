"""What both firewalls ask of addresses. Knows no rule."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address

Network = IPv4Network | IPv6Network
LINK_LOCAL = IPv6Network("fe80::/10")


@lru_cache(maxsize=4096)
def collapsed(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Without what lies in another. Remembered: many rules have the same peers, and working it out was a third of what
    a host's manifest takes."""
    return tuple(map(str, merged(prefixes)))


@lru_cache(maxsize=4096)
def merged(prefixes: tuple[str, ...]) -> tuple[Network, ...]:
    networks = [network(prefix) for prefix in prefixes]
    six = [n for n in networks if isinstance(n, IPv6Network)]
    four = [n for n in networks if isinstance(n, IPv4Network)]
    return (*collapse_addresses(six), *collapse_addresses(four))


def network(prefix: str) -> Network:
    """What follows a `%` may be anything, and Python gives it back as it was: an error here."""
    return IPv6Network(unscoped(prefix)) if ":" in prefix else IPv4Network(unscoped(prefix))


Span = tuple[int, int, int]
"""Version, first and last address: prefixes lie in each other or apart, and so sorted a wider one comes first."""


@lru_cache(maxsize=4096)
def spans(prefixes: tuple[str, ...]) -> tuple[Span, ...]:
    return tuple(sorted((n.version, int(n[0]), int(n[-1])) for n in merged(prefixes)))


def inside(address: str, prefixes: tuple[str, ...]) -> bool:
    found, number = ip_address(address), int(ip_address(address))
    place = bisect_right(spans(prefixes), (found.version, number, 1 << 128)) - 1
    version, _, last = spans(prefixes)[place] if place >= 0 else (0, 0, 0)
    return version == found.version and number <= last


@lru_cache(maxsize=4096)
def common(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """What is in both; () of the first means everybody. In one sweep: each may have thousands."""
    if not some:
        return others
    sides = [zip(collapsed(listed), merged(listed), strict=True) for listed in (some, others)]
    ordered = sorted(
        (n.version, int(n[0]), n.prefixlen, side, int(n[-1]), text) for side in (0, 1) for text, n in sides[side]
    )
    found, reach = list[str](), [(0, 0), (0, 0)]
    for version, _, _, side, last, text in ordered:
        if reach[1 - side] >= (version, last):
            found.append(text)
        reach[side] = (version, last)
    return tuple(found)


def overlap(a: Network, b: Network) -> bool:
    return a.version == b.version and a.overlaps(b)


def link_locals(prefixes: tuple[str, ...]) -> bool:
    """Whether some are those of neighbours and routers (RFC 4861)."""
    return any(overlap(network, LINK_LOCAL) for network in merged(prefixes))


def unscoped(address: str) -> str:
    if "%" in address:
        raise ValueError(f"an address with a scope: {address!r}")
    return address


def link_local(mac: str) -> str:
    """The address the kernel derives (modified EUI-64, RFC 4291 appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
