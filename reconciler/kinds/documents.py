"""What a kind may look at while it expands a document, and what it hands back.

In: Documents grouped by who wrote them. Out: look-ups that answer with the document or with a Problem naming the
nearest right name. Where a jail stands (`Place`) is worked out here once for all jails of a customer, because jails
refer to each other's addresses. Must not know platforms.
"""

from __future__ import annotations

import hashlib
import socket
from base64 import b32encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from ipaddress import IPv6Network, ip_interface
from typing import Any, TypeVar

from reconciler.kinds.addresses import Interface
from reconciler.load import nearest
from reconciler.model import Claim, Document, JailSecret, ListFile, Part, Pointer, Problem, SecretFile, Site, problem
from reconciler.values import dataclass


@dataclass(frozen=True, slots=True)
class Expansion:
    """What one document contributes: claims, sites, problems, and Parts of `hosts`.

    `parts` makes them, as (host, Part), when one of these hosts is asked for: validating needs none (16 % of the time
    from a commit to a Fleet, 40 % of the memory).
    """

    hosts: frozenset[str] = frozenset()
    parts: Callable[[], Iterable[tuple[str, Part]]] = tuple
    claims: tuple[Claim, ...] = ()
    sites: tuple[Site, ...] = ()
    problems: tuple[Problem, ...] = ()


T = TypeVar("T")


class Known(dict[str, T]):
    """By name. `broken`: names whose files are there, but have Problems of their own."""

    broken: frozenset[str] = frozenset()


class Named(Known[Document]):
    """Documents of one kind."""


class Lists(Known[ListFile]):
    """Lists of addresses: staff's, or one customer's."""


NONE = Named()


@dataclass(frozen=True, slots=False)
class Staff:
    """Staff's documents by kind and name, and their lists."""

    documents: Mapping[str, Named]
    lists: Lists = field(default_factory=Lists)

    def named(self, kind: str) -> Named:
        return self.documents.get(kind, NONE)

    def find(self, kind: str, name: str) -> Document | None:
        return self.named(kind).get(name)

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """The platform's default limits, in the document's own words."""
        limits: Mapping[str, Any] = self.platform.get("defaults", {}).get("limits", {})
        return limits

    @cached_property
    def platform(self) -> Mapping[str, Any]:
        return next((d.spec for d in self.named("Platform").values()), {})

    @cached_property
    def prefixes(self) -> Mapping[str, IPv6Network]:
        return {name: IPv6Network(d.spec["prefix"]) for name, d in self.named("Location").items()}

    @cached_property
    def switch_addresses(self) -> Mapping[str, list[tuple[str, Mapping[str, Any], Interface]]]:
        """Location → (host, its switch, the host's address there), of all its hosts."""
        found: dict[str, list[tuple[str, Mapping[str, Any], Interface]]] = {}
        for name, host in sorted(self.named("Host").items()):
            for switch in host.spec["switches"]:
                own = [(name, switch, ip_interface(address)) for address in switch.get("addresses", ())]
                found.setdefault(host.spec["location"], []).extend(own)
        return found

    @cached_property
    def subnets(self) -> Mapping[str, tuple[int, int]]:
        """Location → its first address as a number, and the highest number of a /64 in it."""
        return {name: (int(prefix.network_address), subnets(prefix)) for name, prefix in self.prefixes.items()}


@dataclass(frozen=True, slots=False)
class Tenant:
    """One customer's documents."""

    customer: Document
    jails: Named
    secrets: Known[SecretFile]
    staff: Staff = field(repr=False)
    lists: Lists = field(default_factory=Lists)
    """Its own; its jails may name staff's as well."""
    tunnels: Named = field(default_factory=Named)

    @cached_property
    def places(self) -> Mapping[str, Place]:
        """Jails that stand somewhere; one whose host does not exist is left out (and is a Problem of its own)."""
        placed = ((name, place(document, self)) for name, document in self.jails.items())
        return {name: p for name, p in placed if p}

    @cached_property
    def known_lists(self) -> Lists:
        """Those that its jails may name."""
        found = Lists({**self.staff.lists, **self.lists})
        found.broken = self.staff.lists.broken | self.lists.broken
        return found

    @cached_property
    def hosts(self) -> frozenset[str]:
        return frozenset(place.host for place in self.places.values())

    @cached_property
    def welcome(self) -> Mapping[str, tuple[str, ...]]:
        """Jail → the jails that let it in by name. Turned round once: asking each for each grows with the square."""
        turned: dict[str, list[str]] = {}
        for name, jail in self.jails.items():
            for peer in {peer for entry in jail.spec.get("publish", ()) for peer in entry.get("from", ())}:
                turned.setdefault(peer, []).append(name)
        return {peer: tuple(names) for peer, names in turned.items()}

    @cached_property
    def ends(self) -> Mapping[str, int]:
        """Jail → how many tunnels begin or end in it."""
        return Counter(t.spec[end]["jail"] for t in self.tunnels.values() for end in ("from", "to"))

    @cached_property
    def cables(self) -> Mapping[str, tuple[tuple[str, Mapping[str, str]], ...]]:
        """Jail → (jail that declares a link to it, the link)."""
        turned: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
        for name, jail in self.jails.items():
            for link in jail.spec.get("links", ()):
                turned.setdefault(link["to"], []).append((name, link))
        return {peer: tuple(links) for peer, links in turned.items()}

    @cached_property
    def start_cycle(self) -> tuple[str, ...]:
        """Jails of which each waits for the next, in a circle, or nothing."""
        try:
            waits = {name: jail.spec["after"] for name, jail in self.jails.items() if "after" in jail.spec}
            TopologicalSorter(waits).prepare()
        except CycleError as error:
            return tuple(reversed(error.args[1]))
        return ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a jail stands, and what is derived from its id alone."""

    id: str
    host: str
    location: str
    address: str
    ipv4: str
    private: str
    nic: str
    mac: str
    segments: tuple[str, ...]
    """Prefixes of its addresses on segments."""

    @property
    def own(self) -> tuple[str, ...]:
        """Where it is at home, and has its way out."""
        return (f"{self.address}/128", *(f"{four}/32" for four in (self.ipv4, self.private) if four))

    def seen_from(self, host: str) -> tuple[str, ...]:
        """All that others there may know, as firewall rules name them: a private one is known on its own host alone."""
        known = self.own if host == self.host or not self.private else self.own[:-1]
        return (*known, *self.segments)


def jail_id(customer: str, jail: str) -> str:
    """Names hold no double hyphen (their schema says so), so the id can be taken apart again."""
    return f"{customer}--{jail}"


def stable(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def mac(digest: bytes) -> str:
    """A locally administered unicast address out of 46 stable bits.

    The kernel's own defaults collide: a 16-bit hash in new FreeBSD releases, and clones of a host always.
    """
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:6]]).hex(":")


def interface(digest: bytes, letter: str = "j") -> str:
    """An interface name of 11 characters (at most 15 fit, IFNAMSIZ) out of 50 stable bits."""
    return letter + b32encode(digest[6:13]).decode().lower()[:10]


def subnet(tenant: Tenant, location: str) -> int | None:
    """The first address of the customer's /64 in a location, as a number; None when its subnet does not fit."""
    first, highest = tenant.staff.subnets[location]
    number: int = tenant.customer.spec["subnet"]
    return first + (number << 64) if number <= highest else None


def subnets(prefix: IPv6Network) -> int:
    """The highest number of a /64 in it."""
    return (1 << max(0, 64 - prefix.prefixlen)) - 1


def place(document: Document, tenant: Tenant) -> Place | None:
    spec = document.spec
    host = tenant.staff.find("Host", spec["host"])
    if host is None or host.spec["location"] not in tenant.staff.prefixes:
        return None
    location: str = host.spec["location"]
    first = subnet(tenant, location)
    if first is None:
        return None
    id = jail_id(tenant.customer.name, document.name)
    digest = stable(id)
    derived = socket.inet_ntop(socket.AF_INET6, (first + int.from_bytes(digest[12:16], "big")).to_bytes(16, "big"))
    return Place(
        id=id,
        host=host.name,
        location=location,
        address=spec.get("address", derived),
        ipv4=spec.get("ipv4", {}).get("address", ""),
        private=spec.get("privateIpv4", ""),
        nic=spec.get("nic") or interface(digest),
        mac=mac(digest),
        segments=tuple(single(interface["address"]) for interface in spec.get("interfaces", ())),
    )


def secret(tenant: Tenant, name: str) -> JailSecret:
    file = tenant.secrets[name]
    return JailSecret(name, file.path, file.ciphertext)


def single(interface: str) -> str:
    """ADDRESS or ADDRESS/LENGTH → the prefix of that one address."""
    address = interface.partition("/")[0]
    return f"{address}/{128 if ':' in address else 32}"


def missing(
    document: Document, pointer: Pointer, what: str, name: str, known: Mapping[str, object], make: str = ""
) -> Iterator[Problem]:
    """A reference to something that is not there, with the nearest right name, or all of them and how to `make` it.

    What is there but broken is no second Problem: one misspelt key in a blueprint would be told once a jail.
    """
    if isinstance(known, Known) and name in known.broken:
        return
    guess = nearest(name, known)
    there = f"there is {', '.join(sorted(known)[:12])}" if known else ""
    hint = f"did you mean {guess}?" if guess else "; ".join(filter(None, (there, make)))
    yield problem(document.path, pointer, f"there is no {what} {name}", hint)


def secret_problems(document: Document, pointer: Pointer, name: str, tenant: Tenant, source: str) -> Iterator[Problem]:
    """Of a secret that is named; `source` prints what such a one may hold. One whose file is broken is no Problem of
    who names it, and not among the tenant's secrets either."""
    recipient = tenant.customer.spec.get("recipient")
    if name not in tenant.secrets:
        command = f"age --armor -r {recipient} -o customers/{tenant.customer.name}/secrets/{name}.age"
        make = f"to make it: {source} | {command}" if recipient else ""
        yield from missing(document, pointer, "secret", name, tenant.secrets, make)
    if not recipient:
        message = f"a secret, but {tenant.customer.name} has no recipient to encrypt it to"
        yield problem(document.path, pointer, message, f"add spec.recipient to {tenant.customer.path}")


def repeated(document: Document, pointer: Pointer, values: list[Any], what: str) -> Iterator[Problem]:
    """A Problem for every value that came before in the same list."""
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield problem(document.path, (*pointer, index), f"{what} is there twice", "remove one of the two")
        seen.add(value)
