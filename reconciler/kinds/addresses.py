"""Private networks: what switches, cables and jails may have without asking anybody. Knows no document."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface, ip_network
from typing import Any

PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
Interface = IPv4Interface | IPv6Interface
RANGES = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or fc00::/7"


def private(address: Interface) -> bool:
    network = address.network
    return any(address.version == n.version and network.subnet_of(n) for n in PRIVATE)  # type: ignore[arg-type]


def edge(address: Interface) -> bool:
    """Whether it stands for its network, or for all of it."""
    network = address.network
    return address.version == 4 and network.prefixlen < 31 and address.ip in (network[0], network[-1])


def overlap(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def networks4(switch: Mapping[str, Any]) -> tuple[IPv4Network, ...]:
    """The private IPv4 networks of a switch, by the addresses that the host has there."""
    found = [ip_interface(address) for address in switch.get("addresses", ())]
    return tuple(f.network for f in found if isinstance(f, IPv4Interface) and private(f))
