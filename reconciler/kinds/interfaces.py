"""A jail's further interfaces: on segments that several hosts share, with private addresses and no way out.

In: a Jail document, its place and its host's. Out: Nics, claims and Problems. Its one address on the customer's /64,
and cables to its neighbours, are in `jail`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_interface
from typing import Any

from reconciler.kinds.addresses import RANGES, Interface, edge, overlap, private
from reconciler.kinds.documents import Place, Staff, mac, missing, stable
from reconciler.model import Claim, Document, Nic, Pointer, Problem, problem


def interface_problems(document: Document, place: Place, staff: Staff) -> Iterator[Problem]:
    host = staff.named("Host")[place.host]
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
        yield from address_problems(document, (*where, "address"), interface["address"], place, staff)
    yield from twice_problems(document)


def twice_problems(document: Document) -> Iterator[Problem]:
    """A jail answers by its first way to a network, and a port lets only its own address out."""
    seen: list[tuple[str, Interface]] = []
    for index, interface in enumerate(document.spec.get("interfaces", ())):
        address = ip_interface(interface["address"])
        nic = next((nic for nic, other in seen if overlap(address.network, other.network)), "")
        if nic:
            message = f"{address.network} is on {nic} already: {interface['nic']} would not be answered from"
            hint = "leave one of them out, or take a smaller network"
            yield problem(document.path, ("spec", "interfaces", index, "address"), message, hint)
        seen.append((interface["nic"], address))


def address_problems(document: Document, pointer: Pointer, text: str, place: Place, staff: Staff) -> Iterator[Problem]:
    address = ip_interface(text)
    if not private(address):
        yield problem(document.path, pointer, f"{address} is not private", f"take one of {RANGES}")
    elif edge(address):
        yield problem(document.path, pointer, f"{address} is the network's own", "take another")
    else:
        yield from elsewhere_problems(document, pointer, address, place, staff)


def elsewhere_problems(
    document: Document, pointer: Pointer, address: Interface, place: Place, staff: Staff
) -> Iterator[Problem]:
    """What hosts know as somebody else's: they judge packets by their addresses."""
    for name, prefix in staff.prefixes.items():
        if overlap(address.network, prefix):
            message = f"{address.network} and {prefix} of location {name} overlap"
            yield problem(document.path, pointer, message, "take the segment's own network")
    for host, switch, own in staff.switch_addresses.get(place.location, ()):
        if "uplink" in switch and address.ip == own.ip:
            yield problem(document.path, pointer, f"{address.ip} is host {host}'s on {switch['name']}", "take another")
            return
        if "uplink" not in switch and overlap(address.network, own.network):
            message = f"{address.network} and {own.network} of switch {switch['name']} on host {host} overlap"
            yield problem(document.path, pointer, message, "take the segment's own network")
            return


def interface_claims(document: Document, place: Place) -> Iterator[Claim]:
    """One for all segments of a location: who may come in is said by addresses, whatever segment they come by."""
    for index, interface in enumerate(document.spec.get("interfaces", ())):
        where: Pointer = ("spec", "interfaces", index)
        address = interface["address"].partition("/")[0]
        yield Claim(f"interface on host {place.host}", interface["nic"], document.path, (*where, "nic"))
        yield Claim(f"interface in jail {place.id}", interface["nic"], document.path, (*where, "nic"))
        # derived from a name that customers choose, and find others for
        yield Claim("MAC address", interface_mac(interface, place), document.path, (*where, "nic"))
        yield Claim(f"address on segments in {place.location}", address, document.path, (*where, "address"))


def interface_mac(interface: Mapping[str, Any], place: Place) -> str:
    return mac(stable(f"{place.id} {interface['nic']}"))


def further_nics(document: Document, place: Place) -> tuple[Nic, ...]:
    return tuple(nic(interface, place) for interface in document.spec.get("interfaces", ()))


def nic(interface: Mapping[str, Any], place: Place) -> Nic:
    return Nic(
        host_side=interface["nic"],
        switch=interface["switch"],
        mac=interface_mac(interface, place),
        addresses=(interface["address"],),
        gateways=(),
    )
