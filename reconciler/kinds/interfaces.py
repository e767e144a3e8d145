"""A jail's further interfaces: on segments that several hosts share, with private addresses and no way out.

In: a Jail document, its place and its host's. Out: Nics, claims and Problems. Its one address on the customer's /64,
and cables to its neighbours, are in `jail`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_interface
from typing import Any

from reconciler.kinds.addresses import RANGES, edge, private
from reconciler.kinds.documents import Place, mac, missing, segment, stable
from reconciler.model import Claim, Document, Nic, Pointer, Problem, problem


def interface_problems(document: Document, host: Document) -> Iterator[Problem]:
    switches = {switch["name"]: switch for switch in host.spec["switches"]}
    for index, interface in enumerate(document.spec.get("interfaces", ())):
        where: Pointer = ("spec", "interfaces", index)
        name = interface["switch"]
        if name not in switches:
            yield from missing(document, (*where, "switch"), f"switch on host {host.name} called", name, switches)
        elif "uplink" not in switches[name]:
            hint = "take one with an uplink; jails of one host are joined by links"
            yield problem(document.path, (*where, "switch"), f"{name} joins no segment", hint)
        if "_" not in interface["nic"]:
            message = f"{interface['nic']} may be an interface of the host's own"
            yield problem(document.path, (*where, "nic"), message, "take a name with an underscore, such as db_a")
        yield from address_problems(document, (*where, "address"), interface["address"])


def address_problems(document: Document, pointer: Pointer, text: str) -> Iterator[Problem]:
    address = ip_interface(text)
    if not private(address):
        yield problem(document.path, pointer, f"{address} is not private", f"take one of {RANGES}")
    elif edge(address):
        yield problem(document.path, pointer, f"{address} is the network's own", "take another")


def interface_claims(document: Document, place: Place) -> Iterator[Claim]:
    for index, interface in enumerate(document.spec.get("interfaces", ())):
        where: Pointer = ("spec", "interfaces", index)
        address = interface["address"].partition("/")[0]
        yield Claim(f"interface on host {place.host}", interface["nic"], document.path, (*where, "nic"))
        yield Claim(segment(interface["switch"], place.location), address, document.path, (*where, "address"))


def further_nics(document: Document, place: Place) -> tuple[Nic, ...]:
    return tuple(nic(interface, place) for interface in document.spec.get("interfaces", ()))


def nic(interface: Mapping[str, Any], place: Place) -> Nic:
    return Nic(
        host_side=interface["nic"],
        switch=interface["switch"],
        mac=mac(stable(f"{place.id} {interface['nic']}")),
        addresses=(interface["address"],),
        gateways=(),
    )
