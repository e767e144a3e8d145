"""Jail: one website's machine. `expand` is the table of contents.

In: a Jail document, staff's documents and the customer's own. Out: the jail and its links and rules on its host, and
rules on the hosts of the jails it lets in by name (they need not say so themselves). Checked here: references, its
addresses, the blueprint's ports and parameters. What may reach it is in `traffic`, its cables are in `links`, its
interfaces on segments in `interfaces`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from itertools import chain
from typing import Any

from reconciler.kinds.addresses import networks4
from reconciler.kinds.blueprint import matches
from reconciler.kinds.documents import (
    Expansion,
    Place,
    Staff,
    Tenant,
    interface,
    jail_id,
    missing,
    secret,
    secret_problems,
    stable,
    subnet,
)
from reconciler.kinds.health import check_rules, health, health_problems
from reconciler.kinds.host import announces, carries, on_freebsd
from reconciler.kinds.interfaces import further_nics, interface_claims, interface_problems
from reconciler.kinds.limits import disk_problems, limits_of
from reconciler.kinds.links import cable, link_claims, link_problems, neighbours
from reconciler.kinds.lists import to_problems
from reconciler.kinds.traffic import host_port_claims, peers_rules, publish_problems, rules, visitor_problems
from reconciler.model import (
    Claim,
    Document,
    Jail,
    Nic,
    Part,
    Pointer,
    Problem,
    Source,
    problem,
)

HOST_GATEWAY = "fe80::1"
"""The host's address on every routed switch. Jails' gateway, so that it never takes part in the customers' prefixes."""
HOST_GATEWAY4 = "169.254.1.1"
OWN_NAME = "take a name with an underscore, such as www_a, or leave it out"
DATA = ("/data",)
"""The schema's default for a blueprint's data."""
NOT_GRANTED: Mapping[str, Mapping[str, str]] = {
    "freebsd": {},
    # the file systems ask for the capability in the first user namespace (ioctl_iflags(2))
    "linux": {"chflags": "only FreeBSD hosts can: take one, or a blueprint without it"},
}
"""Platform → grant → what to do instead."""
STOP_TIMEOUT = 15
"""The schema's default for a blueprint's stopTimeout."""


def expand(document: Document, staff: Staff, tenant: Tenant) -> Expansion:
    place = tenant.places.get(document.name)
    blueprint = staff.find("Blueprint", document.spec["blueprint"])
    problems = (
        *reference_problems(document, staff, tenant),
        *(address_problems(document, staff, tenant, place) if place else ()),
        *(private_problems(document, staff, place) if place else ()),
        *(interface_problems(document, place, staff) if place else ()),
        *(nic_problems(document, place) if place else ()),
        *(blueprint_problems(document, blueprint) if blueprint else ()),
        *(grant_problems(document, blueprint, staff) if blueprint else ()),
        *(data_problems(document, blueprint, staff) if blueprint else ()),
        *(health_problems(document, blueprint) if blueprint else ()),
        *publish_problems(document, tenant),
        *to_problems(document, tenant),
        *(visitor_problems(document, staff, place) if place else ()),
        *disk_problems(document, staff),
        *neighbour_problems(document, tenant),
    )
    if problems or place is None or blueprint is None:
        return Expansion(problems=problems, claims=tuple(claims(document, place, staff)) if place else ())
    making = partial(parts, document, place, blueprint, staff, tenant)
    return Expansion(tenant.hosts, making, claims=tuple(claims(document, place, staff)))


# ── problems ─────────────────────────────────────────────────────────────────────────────────────────────────


def reference_problems(document: Document, staff: Staff, tenant: Tenant) -> Iterator[Problem]:
    spec = document.spec
    if staff.find("Blueprint", spec["blueprint"]) is None:
        yield from missing(document, ("spec", "blueprint"), "blueprint", spec["blueprint"], staff.named("Blueprint"))
    host = staff.find("Host", spec["host"])
    if host is None:
        yield from missing(document, ("spec", "host"), "host", spec["host"], staff.named("Host"))
    elif "switch" in spec:
        yield from switch_problems(document, host, staff.find("Location", host.spec["location"]))
    for index, name in enumerate(spec.get("secrets", ())):
        yield from secret_problems(document, ("spec", "secrets", index), name, tenant, "printf %s '…'")


def switch_problems(document: Document, host: Document, location: Document | None) -> Iterator[Problem]:
    name, switches = document.spec["switch"], {switch["name"]: switch for switch in host.spec["switches"]}
    if name not in switches:
        yield from missing(document, ("spec", "switch"), f"switch on host {host.name} called", name, switches)
    elif location and not carries(switches[name], location):
        message = f"{name} is a segment, and has no way out"
        yield problem(document.path, ("spec", "switch"), message, "add it to `interfaces`, and leave this out")


def nic_problems(document: Document, place: Place) -> Iterator[Problem]:
    """No system calls an interface of its own by a name with an underscore, and no derived name has one: rules for a
    jail's port must never be rules for the host's network card."""
    name = document.spec.get("nic", "")
    if name and name != interface(stable(place.id)) and "_" not in name:
        yield problem(document.path, ("spec", "nic"), f"{name} may be an interface of the host's own", OWN_NAME)


def address_problems(document: Document, staff: Staff, tenant: Tenant, place: Place) -> Iterator[Problem]:
    spec, location = document.spec, staff.named("Location")[place.location]
    if "address" in spec:
        first = subnet(tenant, place.location) or 0
        address = int(IPv6Address(place.address))
        if address >> 64 != first >> 64 or address == first:
            net = f"{IPv6Address(first)}/64"
            message = f"{place.address} is not in {tenant.customer.name}'s subnet in {place.location}, {net}"
            yield problem(document.path, ("spec", "address"), message, "leave it out to have one derived")
        yield from router_problems(document, ("spec", "address"), place.address, location)
    if "ipv4" in spec:
        pool = location.spec.get("ipv4", {}).get("pool")
        pointer = ("spec", "ipv4", "address")
        if pool is None:
            yield problem(document.path, pointer, f"location {location.name} has no IPv4 addresses", "")
        elif IPv4Address(place.ipv4) not in IPv4Network(pool):
            yield problem(document.path, pointer, f"{place.ipv4} is not in {location.name}'s pool {pool}", "")
        yield from router_problems(document, pointer, place.ipv4, location)


def private_problems(document: Document, staff: Staff, place: Place) -> Iterator[Problem]:
    """Its network is the switch's: the host is the jail's way out of it, so the host must be on it."""
    if not place.private:
        return
    pointer = ("spec", "privateIpv4")
    if place.ipv4:
        yield problem(document.path, pointer, f"it has {place.ipv4} already, which reaches everything", "remove one")
    if staff.named("Location")[place.location].spec["mode"] == "bridged":
        message = "in a bridged location the router is not the host, and knows no private address"
        yield problem(document.path, pointer, message, "remove it; from jail to jail on one host there are links")
        return
    networks = networks4(switch_of(document, staff, place))
    if not any(IPv4Address(place.private) in network for network in networks):
        name = switch_of(document, staff, place)["name"]
        known = f"{name} has {', '.join(map(str, networks))}" if networks else f"{name} has no private IPv4 network"
        message = f"{place.private} is in no private network of its switch"
        yield problem(document.path, pointer, message, f"on host {place.host}, {known}")
    elif any(place.private in (str(n[0]), str(n[-1])) for n in networks if n.prefixlen < 31):
        yield problem(document.path, pointer, f"{place.private} is the network's own", "take another one")


def switch_of(document: Document, staff: Staff, place: Place) -> Mapping[str, Any]:
    """The host's first that may be one where the jail names none."""
    switches: list[Mapping[str, Any]] = staff.named("Host")[place.host].spec["switches"]
    location = staff.named("Location")[place.location]
    named = (s for s in switches if s["name"] == document.spec.get("switch"))
    return next(chain(named, (s for s in switches if carries(s, location)), switches))


def router_problems(document: Document, pointer: Pointer, address: str, location: Document) -> Iterator[Problem]:
    """On a bridged segment a jail with the router's address would be the router."""
    if address in (location.spec.get("gateway"), location.spec.get("ipv4", {}).get("gateway")):
        yield problem(document.path, pointer, f"{address} is the router's in {location.name}", "take another one")


def blueprint_problems(document: Document, blueprint: Document) -> Iterator[Problem]:
    known = blueprint.spec.get("parameters", {})
    given = document.spec.get("parameters", {})
    for name, value in given.items():
        pointer = ("spec", "parameters", name)
        if name not in known:
            yield from missing(document, pointer, f"parameter of blueprint {blueprint.name} called", name, known)
        elif not matches(known[name].get("pattern"), value):
            hint = f"{known[name]['description']} It has to match {known[name]['pattern']}"
            yield problem(document.path, pointer, f"{value!r} is no value for {name}", hint)
    for name, parameter in known.items():
        if "default" not in parameter and name not in given:
            message = f"blueprint {blueprint.name} needs the parameter {name}"
            yield problem(document.path, ("spec", "blueprint"), message, parameter["description"])
    for index, entry in enumerate(document.spec.get("publish", ())):
        ports = blueprint.spec.get("ports", ())
        if entry["port"] not in ports:
            message = f"blueprint {blueprint.name} does not listen on port {entry['port']}"
            hint = f"it listens on {', '.join(map(str, ports))}" if ports else "it listens on no port"
            yield problem(document.path, ("spec", "publish", index, "port"), message, hint)


def grant_problems(document: Document, blueprint: Document, staff: Staff) -> Iterator[Problem]:
    host = staff.find("Host", document.spec["host"])
    instead = NOT_GRANTED[host.spec["platform"]] if host else {}
    for grant in blueprint.spec.get("grants", ()):
        if grant in instead:
            message = f"blueprint {blueprint.name} grants {grant}, which host {document.spec['host']} cannot"
            yield problem(document.path, ("spec", "blueprint"), message, instead[grant])


def data_problems(document: Document, blueprint: Document, staff: Staff) -> Iterator[Problem]:
    """There it is mounted over what was mounted before it."""
    for path in blueprint.spec.get("data", ()) if on_freebsd(document.spec["host"], staff) else ():
        if path.split("/")[1] == "var":
            message = f"blueprint {blueprint.name} has data in {path}, and a FreeBSD jail forgets its /var"
            hint = "in the blueprint, take a directory such as /data instead"
            yield problem(document.path, ("spec", "blueprint"), message, hint)


def neighbour_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    """Links and start order reach only to jails of the same customer on the same host."""
    mentions: list[tuple[Pointer, str]] = [
        (("links", i, "to"), link["to"]) for i, link in enumerate(document.spec.get("links", ()))
    ]
    mentions += [(("after", i), name) for i, name in enumerate(document.spec.get("after", ()))]
    for pointer, name in mentions:
        other = tenant.jails.get(name)
        if other is None:
            yield from missing(document, ("spec", *pointer), "jail", name, tenant.jails)
        elif name == document.name:
            yield problem(document.path, ("spec", *pointer), f"{name} is this jail itself", "")
        elif other.spec["host"] != document.spec["host"]:
            message = f"jail {name} is on host {other.spec['host']}, this one on {document.spec['host']}"
            yield problem(document.path, ("spec", *pointer), message, "both have to be on one host")
    yield from link_problems(document, on_freebsd(document.spec["host"], tenant.staff))
    if document.name in tenant.start_cycle and document.name not in document.spec["after"]:
        message = f"each waits for the next: {' → '.join(tenant.start_cycle)}"
        yield problem(document.path, ("spec", "after"), message, "let one of them start first")


# ── claims and parts ─────────────────────────────────────────────────────────────────────────────────────────


def claims(document: Document, place: Place, staff: Staff) -> Iterator[Claim]:
    path = document.path
    yield Claim("address", place.address, path, ("spec", "address"))
    yield Claim("MAC address", place.mac, path, ())
    yield Claim(f"interface on host {place.host}", place.nic, path, ("spec", "nic"))
    if place.ipv4:
        yield Claim("address", place.ipv4, path, ("spec", "ipv4", "address"))
    if place.private:
        yield Claim(f"address on host {place.host}", place.private, path, ("spec", "privateIpv4"))
    yield from interface_claims(document, place)
    yield from host_port_claims(document, place)
    yield from link_claims(document, place, staff)


def parts(
    document: Document, place: Place, blueprint: Document, staff: Staff, tenant: Tenant
) -> Iterator[tuple[str, Part]]:
    for part in parts_on_host(document, place, blueprint, staff, tenant):
        yield place.host, part
    yield from peers_rules(document, place, tenant)


def parts_on_host(
    document: Document, place: Place, blueprint: Document, staff: Staff, tenant: Tenant
) -> Iterator[Part]:
    made = jail(document, place, blueprint, staff, tenant)
    yield made
    for link in document.spec.get("links", ()):
        if link["to"] in tenant.places:  # else its document is broken
            yield cable(place, tenant.places[link["to"]], link)
    yield from rules(document, place, staff, tenant)
    yield from check_rules(made, place, staff)


def jail(document: Document, place: Place, blueprint: Document, staff: Staff, tenant: Tenant) -> Jail:
    spec, plan = document.spec, blueprint.spec
    location = staff.named("Location")[place.location]
    return Jail(
        id=place.id,
        customer=document.customer,
        name=document.name,
        nic=nic(document, place, staff),
        blueprint=blueprint.name,
        application=source(plan["source"]),
        release=source(spec["release"]) if "release" in spec else None,
        command=tuple(plan["command"]),
        root=plan.get("runAs") == "root",
        defaults=plan.get("defaults", ""),
        data=tuple(plan.get("data", DATA)),
        environment=environment(spec, plan, place, document.name),
        secrets=tuple(secret(tenant, name) for name in spec.get("secrets", ()) if name in tenant.secrets),
        limits=limits_of(spec, staff),
        after=tuple(jail_id(document.customer, name) for name in spec.get("after", ())),
        restart=spec.get("restart", 0),
        stop_timeout=plan.get("stopTimeout", STOP_TIMEOUT),
        grants=tuple(sorted(plan.get("grants", ()))),
        resolvers=tuple(location.spec.get("resolvers", ())),
        neighbours=neighbours(document, tenant),
        more=further_nics(document, place),
        health=health(spec, plan),
    )


def nic(document: Document, place: Place, staff: Staff) -> Nic:
    host = staff.named("Host")[place.host]
    location = staff.named("Location")[place.location]
    gateways = [location.spec.get("gateway", HOST_GATEWAY)]
    if place.ipv4 or place.private:
        gateways.append(location.spec.get("ipv4", {}).get("gateway", HOST_GATEWAY4))
    return Nic(
        host_side=place.nic,
        switch=switch_of(document, staff, place)["name"],
        mac=place.mac,
        addresses=place.own,
        gateways=tuple(gateways),
        announce=host.spec.get("uplink", "") if announces(location) else "",
        private=f"{place.private}/32" if place.private else "",
    )


def environment(spec: Any, plan: Any, place: Place, name: str) -> tuple[tuple[str, str], ...]:
    """The platform's own names last: a parameter cannot stand in for them."""
    values = {key: p["default"] for key, p in plan.get("parameters", {}).items() if "default" in p}
    values |= spec.get("parameters", {})
    return tuple(sorted({**values, "JAIL_NAME": name, "JAIL_ADDRESS": place.address}.items()))


def source(spec: dict[str, str]) -> Source:
    if "git" in spec:
        return Source("git", spec["git"], spec["commit"])
    return Source("archive", spec["archive"], spec["digest"].removeprefix("sha256:"))
