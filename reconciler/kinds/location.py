"""Location: where addresses come from. Puts nothing on a host by itself; hosts and jails read it.

Checked here: the prefix has room for a /64 a customer, overlaps no other location's, and the mode has what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from reconciler.kinds.documents import Expansion, Staff
from reconciler.model import Document, Problem, problem

SHORTEST, LONGEST = 32, 56
"""Prefix lengths: a /56 has room for 255 customers; a /32 has room for more than the schema's bound."""


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(problems=(*prefix_problems(document, staff), *mode_problems(document)))


def prefix_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    pointer = ("spec", "prefix")
    prefix = IPv6Network(document.spec["prefix"])
    if not SHORTEST <= prefix.prefixlen <= LONGEST:
        yield problem(
            document.path,
            pointer,
            f"a /{prefix.prefixlen} is no prefix for a location",
            f"each customer gets a /64 of it: take a /{SHORTEST} to /{LONGEST}",
        )
    for name, other in staff.prefixes.items():
        if name != document.name and prefix.overlaps(other):
            yield problem(document.path, pointer, f"{prefix} overlaps {other} of location {name}", "change one of them")


def mode_problems(document: Document) -> Iterator[Problem]:
    spec = document.spec
    if spec["mode"] == "bridged":
        if "gateway" not in spec:
            yield problem(document.path, ("spec",), "a bridged location needs a gateway", "add gateway: fe80::1, say")
        if "gateway" not in spec.get("ipv4", {"gateway": ""}):
            yield problem(document.path, ("spec", "ipv4"), "a bridged location needs a gateway for IPv4", "add gateway")
        if "announce" in spec:
            yield useless(document, ("spec", "announce"), "the location's router finds bridged jails by itself")
        return
    if "gateway" in spec:
        yield useless(document, ("spec", "gateway"), "in a routed location the host is the gateway")
    if "gateway" in spec.get("ipv4", {}):
        yield useless(document, ("spec", "ipv4", "gateway"), "in a routed location the host is the gateway")


def useless(document: Document, pointer: tuple[str, ...], why: str) -> Problem:
    return problem(document.path, pointer, f"{pointer[-1]} does nothing here: {why}", "remove it")
