"""Cables from one jail to another of the same customer on the same host, with private addresses at both ends.

In: a Jail document and the places of both jails. Out: Links, claims, Problems, and the names by which the ends know
each other. Interfaces on switches are in `interfaces` and `jail`.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

from reconciler.kinds.addresses import RANGES, edge, private
from reconciler.kinds.documents import Place, Staff, Tenant, jail_id, mac, stable
from reconciler.kinds.host import on_freebsd
from reconciler.model import Claim, Document, Link, LinkEnd, Problem, problem

OWN_NICS = ("lo", "eth0")
NO_NICS = ("all", "default", "bridge", "egress", "epair", "vlan")
"""Names that kernels keep for themselves (ip-sysctl.rst, conf/all and conf/default; groups of ifconfig(8))."""


def link_problems(document: Document, on_host: bool) -> Iterator[Problem]:
    """`on_host`: the interfaces of links have one name on the host and in the jail."""
    for index, link in enumerate(document.spec.get("links", ())):
        for key in ("nic", "peerNic"):
            where = ("spec", "links", index, key)
            if link[key] in OWN_NICS + NO_NICS:
                message = f"every jail has an interface {link[key]} already"
                yield problem(document.path, where, message, "take another name")
            elif on_host and "_" not in link[key]:
                message = f"{link[key]} may be an interface of the host's own"
                yield problem(document.path, where, message, "take a name with an underscore, such as www_db")
        ours, theirs = ip_interface(link["address"]), ip_interface(link["peerAddress"])
        pointer = ("spec", "links", index, "peerAddress")
        if ours.network != theirs.network or ours == theirs:
            message = f"{ours} and {theirs} do not see each other"
            yield problem(document.path, pointer, message, "take two addresses of one network")
        elif not private(ours):
            hint = f"take one of {RANGES}"
            yield problem(document.path, ("spec", "links", index, "address"), f"{ours} is not private", hint)
        for key, end in (("address", ours), ("peerAddress", theirs)):
            if edge(end):
                yield problem(
                    document.path, ("spec", "links", index, key), f"{end} is the network's own", "take another"
                )


def link_claims(document: Document, place: Place, staff: Staff) -> Iterator[Claim]:
    for index, link in enumerate(document.spec.get("links", ())):
        theirs = jail_id(document.customer, link["to"])
        for id, key in ((place.id, "nic"), (theirs, "peerNic")):
            # on FreeBSD an interface keeps its name when it comes back from a jail: all of a host's are in one place
            where = f"on host {place.host}" if on_freebsd(place.host, staff) else f"in jail {id}"
            yield Claim(f"interface {where}", link[key], document.path, ("spec", "links", index, key))


def cable(place: Place, other: Place, link: dict[str, str]) -> Link:
    """Named after the jail that declares it and its interface there, which only one link can have."""
    id = f"{place.id}--{link['nic']}"
    ends = (
        LinkEnd(place.id, link["nic"], mac(stable(f"{id} a")), (link["address"],)),
        LinkEnd(other.id, link["peerNic"], mac(stable(f"{id} b")), (link["peerAddress"],)),
    )
    return Link(id, ends)


def neighbours(document: Document, tenant: Tenant) -> tuple[tuple[str, str], ...]:
    """Names for /etc/hosts: the jails that let this one in, and `NAME.link` for the other end of a cable."""
    names = {n: tenant.places[n].address for n in tenant.welcome.get(document.name, ()) if n in tenant.places}
    for name, link in tenant.cables.get(document.name, ()):
        names[f"{name}.link"] = link["address"].partition("/")[0]
    for link in document.spec.get("links", ()):
        names[f"{link['to']}.link"] = link["peerAddress"].partition("/")[0]
    return tuple(sorted(names.items()))
