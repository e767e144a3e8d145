"""What may reach a jail, by which ways, and what it may reach: `publish` and `reach` of a Jail document.

In: the document, its place, and the customer's other jails. Out: Rules for both sides of what is let in by name,
Redirects of ports of the host, claims to those, and Problems.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.kinds import lists
from reconciler.kinds.documents import Place, Staff, Tenant, repeated
from reconciler.model import Claim, Document, Part, Pointer, Problem, Rate, Redirect, Rule, problem

BLOCK = 180
"""The schema's default for a rate's `block`, in seconds."""
NO_JAILS: Mapping[str, tuple[str, ...]] = {}


def publish_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    entries = document.spec.get("publish", ())
    ports = [(entry["port"], entry.get("protocol", "tcp")) for entry in entries]
    yield from repeated(document, ("spec", "publish"), ports, "this port")
    for index, entry in enumerate(entries):
        for position, peer in enumerate(entry.get("from", ())):
            where: Pointer = ("spec", "publish", index, "from", position)
            if peer == "any" and peer not in tenant.jails:
                yield problem(document.path, where, "there is no jail any", "leave `from` out to let everybody in")
            elif "/" not in peer:
                yield from lists.from_problems(document, where, peer, tenant)


def visitor_problems(document: Document, staff: Staff, place: Place) -> Iterator[Problem]:
    """Ports of the host, and rates: what `publish` says beside who may come in."""
    for index, entry in enumerate(document.spec.get("publish", ())):
        pointer = ("spec", "publish", index)
        if "hostPort" in entry:
            yield from host_port_problems(document, (*pointer, "hostPort"), staff, place)
        if "rate" in entry and entry.get("protocol") == "udp":
            yield problem(document.path, (*pointer, "rate"), "UDP has no connections to count", "remove it")


def host_port_problems(document: Document, pointer: Pointer, staff: Staff, place: Place) -> Iterator[Problem]:
    """Where the jail's router is not the host, its answers would not come back through the host."""
    if staff.named("Location")[place.location].spec["mode"] == "bridged":
        message = "the jails of a bridged location answer by its router, past their host"
        yield problem(document.path, pointer, message, "remove it; visitors come to the jail's own address")
        return
    if not (place.private or place.ipv4):
        hint = "remove it, and visitors come to the jail's own address by IPv6; or add privateIpv4 for those without"
        yield problem(document.path, pointer, "it has no IPv4 address to lead visitors to", hint)
    if "uplink" not in staff.named("Host")[place.host].spec:
        message = f"host {place.host} has no uplink on which visitors could come"
        yield problem(document.path, pointer, message, "ask the staff to add one")


def host_port_claims(document: Document, place: Place) -> Iterator[Claim]:
    for index, entry in enumerate(document.spec.get("publish", ())):
        if "hostPort" in entry:
            scope = f"{entry.get('protocol', 'tcp')} port of host {place.host}"
            yield Claim(scope, str(entry["hostPort"]), document.path, ("spec", "publish", index, "hostPort"))


def rules(document: Document, place: Place, staff: Staff, tenant: Tenant) -> Iterator[Part]:
    yield from resolver_rules(place, staff.named("Location")[place.location])
    for entry in document.spec.get("publish", ()):
        yield from published(entry, place, staff, tenant)
    for entry in document.spec.get("reach", ()):
        anywhere = "any" in entry["to"]
        label = f"{place.id} reaches {'anywhere' if anywhere else ', '.join(entry['to'])}"
        peers = () if anywhere else whom(entry["to"], tenant)
        yield Rule(place.id, "out", peers, entry.get("protocol", "tcp"), tuple(entry["ports"]), label[:100])


def published(entry: Mapping[str, Any], place: Place, staff: Staff, tenant: Tenant) -> Iterator[Part]:
    protocol, port = entry.get("protocol", "tcp"), entry["port"]
    label = f"{place.id} publishes {port}"
    yield Rule(place.id, "in", peers_of(entry, place, tenant), protocol, (port,), label, rate(entry))
    if "hostPort" in entry:
        uplink = staff.named("Host")[place.host].spec["uplink"]
        yield Redirect(uplink, protocol, entry["hostPort"], place.id, place.private or place.ipv4, port)


def rate(entry: Mapping[str, Any]) -> Rate | None:
    asked = entry.get("rate")
    return Rate(asked["connections"], asked["seconds"], asked.get("block", BLOCK)) if asked else None


def resolver_rules(place: Place, location: Document) -> Iterator[Rule]:
    resolvers = tuple(f"{address}/128" for address in location.spec.get("resolvers", ()))
    if resolvers:
        yield Rule(place.id, "out", resolvers, "udp", (53,), f"{place.id} resolves names")
        yield Rule(place.id, "out", resolvers, "tcp", (53,), f"{place.id} resolves names")


def peers_of(entry: Mapping[str, Any], place: Place, tenant: Tenant) -> tuple[str, ...]:
    """() is everybody. Named jails become their addresses."""
    jails = {name: tenant.places[name].seen_from(place.host) for name in entry.get("from", ()) if name in tenant.places}
    return whom(entry["from"], tenant, jails) if "from" in entry else ()


def whom(names: Iterable[str], tenant: Tenant, jails: Mapping[str, tuple[str, ...]] = NO_JAILS) -> tuple[str, ...]:
    """Prefixes, and what names of jails and lists stand for."""
    found = ((name,) if "/" in name else jails.get(name) or lists.prefixes(name, tenant) for name in names)
    return lists.joined(found) or lists.NOBODY


def peers_rules(document: Document, place: Place, tenant: Tenant) -> Iterator[tuple[str, Rule]]:
    for entry in document.spec.get("publish", ()):
        for peer in entry.get("from", ()):
            other = tenant.places.get(peer)
            if other:
                label = f"{other.id} reaches {place.id}"
                protocol = entry.get("protocol", "tcp")
                seen = place.seen_from(other.host)
                yield other.host, Rule(other.id, "out", seen, protocol, (entry["port"],), label)
