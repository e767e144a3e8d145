"""What the two platforms' ends of a tunnel have in common: spiped's words, and what an end takes for itself.

In: a Tunnel Part. Out: words, claims. Source: spiped(1), 1.6. Must not know how a program is started or kept up.
"""

from __future__ import annotations

from reconciler.model import Tunnel

MOST = 500
"""Connections at a time, the most that spiped takes a number for."""


def spiped(part: Tunnel, key: str) -> list[str]:
    """The arguments. Its addresses are numbers, so that it need not ask for them again (-R)."""
    ways = ["-s", socket(part.listens), "-t", socket(part.connects)]
    return ["-F", "-e" if part.encrypts else "-d", *ways, "-k", key, "-n", str(MOST), "-R"]


def socket(end: tuple[str, int]) -> str:
    """IPv4 too stands in brackets: without them it would be a name."""
    return f"[{end[0]}]:{end[1]}"


def words(part: Tunnel) -> str:
    return f"tunnel {part.id} in {part.jail}"


def claims(part: Tunnel) -> frozenset[str]:
    return frozenset({f"{part.jail}/tcp/{part.listens[1]}"})
