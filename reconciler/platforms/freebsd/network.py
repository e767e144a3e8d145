"""Switches, ports and cables: their one-line files for `network.sh`, and what `ifconfig` and `netstat` say of them.

In: Parts, or the text that a probe printed. Out: Resources whose state names what can be seen (addresses, routes,
membership), and the same attributes as observed. A file here is both the boot state and what an apply calls, so that
the two cannot disagree. Must not know jail.conf, pf, or files of jails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from reconciler.model import File, Jail, Link, LinkEnd, Nic, Rename, Resource, Switch, Vlan
from reconciler.platforms.files import NETWORK, digest, file_state
from reconciler.platforms.freebsd.paths import hardware, inside, jail_name
from reconciler.platforms.steps import quote

FUNCTIONS = files("reconciler.platforms.freebsd").joinpath("network.sh").read_text()
INSIDE = files("reconciler.platforms.freebsd").joinpath("inside.sh").read_text()
GATEWAY = "fe80::1/64"
"""Stands on every routed switch: the jails' way out."""
GATEWAY4 = "169.254.1.1/32"
MARK = "reconciler"
"""The description of every interface that we made, as in network.sh."""


def line(function: str, *words: str) -> str:
    return " ".join([function, *map(quote, words)]) + "\n"


# ── what must be there ───────────────────────────────────────────────────────────────────────────────────────


def nic(part: Rename) -> Resource:
    """Stands before all that uses the name. A card that has it from rc.conf is fine as it is."""
    file = File(f"{NETWORK}/04-{part.name}", line("nic", part.name, part.device).encode())
    state = {**file_state(file), "card": part.device}
    return Resource(f"nic/1 {part.name}", "", state, (file,), f"name {part.name} of network card {part.device}")


def vlan(part: Vlan) -> Resource:
    file = File(f"{NETWORK}/08-{part.name}", line("vlan", part.name, part.parent, str(part.tag)).encode())
    state = {**file_state(file), "carried by": f"{part.parent} as {part.tag}", "up": "yes"}
    return Resource(f"vlan/1 {part.name}", "", state, (file,), f"VLAN {part.tag} of {part.parent}")


def switch(part: Switch) -> Resource:
    mode = "routed" if part.routed else "bridged"
    body = line("switch", part.name, mode, part.uplink or "-", hardware(part.name), *part.addresses)
    file = File(f"{NETWORK}/10-{part.name}", body.encode())
    gateway = (GATEWAY, GATEWAY4) if part.routed else ()
    state = {"up": "yes", "addresses": words((*part.addresses, *gateway)), "others joined": "none"}
    if part.uplink:
        state["uplink"] = part.uplink
    return Resource(f"switch/1 {part.name}", "", {**file_state(file), **state}, (file,), f"switch {part.name}")


def port(jail: Jail, routed: bool) -> Resource:
    nic, name, inner = jail.nic, jail_name(jail.id), inside(jail.nic.host_side)
    addresses, mode = " ".join(nic.addresses), "routed" if routed else "bridged"
    # the switch's own MAC: a bridge takes what is for one of its members in that member's name, past the switch and
    # its rules, but looks for its own first (if_bridge.c, GRAB_OUR_PACKETS)
    body = line("port", name, nic.host_side, hardware(nic.switch), inner, nic.mac, nic.switch, mode, addresses)
    file = File(f"{NETWORK}/20-{name}", body.encode())
    state = {
        "switch": nic.switch,
        "private": "yes",
        "up": "yes",
        "mac": nic.mac,
        "addresses": words(nic.addresses),
        "routes": words(f"default {gateway}" for gateway in nic.gateways),
    }
    if routed:
        state["host routes"] = words(address.partition("/")[0] for address in nic.addresses)
    return Resource(
        f"port/1 {jail.id}",
        jail.id,
        {**file_state(file), **state},
        (file,),
        f"network interface of {jail.id}",
        claims=frozenset({nic.host_side, nic.mac, *nic.addresses}),
        undo="\x1f".join((nic.host_side, addresses, name)),
        # the file names its interface: with another one the old port goes
        disrupts=dict.fromkeys(("addresses", "mac", "switch", file.path), f"connections of jail {jail.id} break"),
    )


def plug(jail: Jail, nic: Nic) -> Resource:
    """A further interface: on a segment, without a way out. Stands after the jail's port."""
    name, inner = jail_name(jail.id), inside(nic.host_side)
    body = line("plug", name, nic.host_side, hardware(nic.switch), inner, nic.mac, nic.switch)
    file = File(f"{NETWORK}/25-{digest(f'{jail.id} {nic.host_side}'.encode())[:16]}", body.encode())
    state = {
        "switch": nic.switch,
        "private": "yes",
        "up": "yes",
        "mac": nic.mac,
        "addresses": words(nic.addresses),
    }
    return Resource(
        f"plug/1 {jail.id}.{nic.host_side}",
        jail.id,
        {**file_state(file), **state},
        (file,),
        f"network interface {nic.host_side} of {jail.id}",
        claims=frozenset({nic.host_side, nic.mac, *nic.addresses}),
        undo="\x1f".join((nic.host_side, name, file.path)),
        disrupts=dict.fromkeys(("addresses", "mac", "switch"), f"connections of jail {jail.id} break"),
    )


def cable(link: Link) -> Resource:
    """Belongs to the jail that declares it; stands after both jails' ports."""
    first, second = link.ends
    ends = [(jail_name(end.jail), end.nic, end.mac) for end in link.ends]
    file = File(f"{NETWORK}/30-{digest(link.id.encode())[:16]}", line("cable", *ends[0], *ends[1]).encode())
    state = {f"{end.jail} {end.nic}": end_state(end.mac, end.addresses) for end in link.ends}
    return Resource(
        f"cable/1 {link.id}",
        first.jail,
        {**file_state(file), **state},
        (file,),
        f"cable from {first.jail} to {second.jail}",
        claims=frozenset({first.nic, second.nic}),
        undo="\x1f".join((ends[0][0], first.nic, ends[1][0], second.nic, file.path)),
        disrupts=dict.fromkeys(state, f"connections between {first.jail} and {second.jail} break"),
    )


def script(jail: Jail, ends: Iterable[LinkEnd]) -> bytes:
    """/etc/network of a jail: its own lo0, its port, its ends of cables, its ways out."""
    inner = inside(jail.nic.host_side)
    lines = [line("plugged", inside(nic.host_side), nic.mac, *nic.addresses) for nic in (jail.nic, *jail.more)]
    lines += [line("plugged", end.nic, end.mac, *end.addresses) for end in sorted(ends, key=lambda end: end.nic)]
    lines += [line("default", gateway, inner) for gateway in jail.nic.gateways]
    head = "#!/bin/sh\n# Written by the reconciler; changes are overwritten.\nset -e\n"
    return "".join([head, FUNCTIONS, INSIDE, *lines]).encode()


def end_state(mac: str, addresses: Iterable[str]) -> str:
    return f"{mac} {words(addresses)}"


def words(values: Iterable[str]) -> str:
    return " ".join(sorted(values))


# ── what is there ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Interface:
    """What `ifconfig NAME` says; `members` with their flags."""

    name: str
    up: bool
    mac: str
    ours: bool
    addresses: tuple[str, ...]
    members: Mapping[str, frozenset[str]]
    carried: str = ""
    """Of a VLAN: "PARENT as TAG"."""


HEADER = re.compile(r"^(\S+): flags=[0-9a-f]+<([^>]*)>")
MEMBER = re.compile(r"^\tmember: (\S+) flags=[0-9a-f]+<([^>]*)>")


def interfaces(lines: Iterable[str]) -> dict[str, Interface]:
    """`ifconfig -a`: a header line for each, then indented lines."""
    blocks: dict[str, list[str]] = {}
    for text in lines:
        header = HEADER.match(text)
        name = header[1] if header else next(reversed(blocks), "")
        blocks.setdefault(name, []).append(text)
    return {name: interface(name, block) for name, block in blocks.items() if name}


def interface(name: str, block: list[str]) -> Interface:
    header = HEADER.match(block[0])
    said = [text.split() for text in block[1:] if text.strip()]
    return Interface(
        name,
        up="UP" in (header[2] if header else "").split(","),
        mac=next((s[1] for s in said if s[0] == "ether" and len(s) > 1), ""),
        ours=["description:", MARK] in said,
        addresses=tuple(address(s) for s in said if s[0] in {"inet", "inet6"} and len(s) > 3),
        carried=next((f"{s[-1]} as {s[1]}" for s in said if s[0] == "vlan:"), ""),
        members={m[1]: frozenset(m[2].split(",")) for m in map(MEMBER.match, block) if m},
    )


def address(said: list[str]) -> str:
    """`inet6 A prefixlen N` or `inet A netmask 0xffffff00` → A/N, without the scope of a link-local one."""
    length = said[3] if said[0] == "inet6" else str(int(said[3], 16).bit_count())
    return f"{said[1].partition('%')[0]}/{length}"


@dataclass(frozen=True)
class Route:
    destination: str
    gateway: str
    device: str


def routes(lines: Iterable[str]) -> Iterator[Route]:
    """`netstat -rnW`: which column is the interface's the heading says; releases have more or fewer before it."""
    column = 0
    for said in map(str.split, lines):
        if "Netif" in said:
            column = said.index("Netif")
        elif column and len(said) > column:
            yield Route(said[0], said[1], said[column])


class Seen:
    """The network of a host and of the jails that run on it, parsed when somebody asks."""

    def __init__(self, host: Mapping[str, list[str]], rooms: Mapping[str, Mapping[str, list[str]]]) -> None:
        """`host` and each of `rooms`: "links" and "routes" → lines."""
        self.host, self.rooms = host, rooms

    @cached_property
    def links(self) -> dict[str, Interface]:
        return interfaces(self.host.get("links", ()))

    @cached_property
    def routes(self) -> list[Route]:
        return list(routes(self.host.get("routes", ())))

    def routed_to(self, device: str) -> set[str]:
        """The single addresses that are; some releases cut an interface's name at the end of its column."""
        return {r.destination for r in self.routes if "/" not in r.destination and device.startswith(r.device)}

    def room(self, jail: str) -> dict[str, Interface]:
        return interfaces(self.rooms.get(jail, {}).get("links", ()))

    def room_routes(self, jail: str) -> list[str]:
        found = routes(self.rooms.get(jail, {}).get("routes", ()))
        return [f"default {r.gateway.partition('%')[0]}" for r in found if r.destination == "default"]


def shown(interface: Interface) -> list[str]:
    """Addresses without the link-local one that the kernel derives from the MAC."""
    return [a for a in interface.addresses if not a.startswith("fe80:") or a == GATEWAY]


def observed(resource: Resource, seen: Seen) -> dict[str, str]:
    """The runtime attributes of a resource of this module; empty when it is not there at all."""
    return dict(OBSERVERS[resource.type](resource, seen))


def observed_switch(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    bridge = seen.links.get(resource.name)
    if bridge is None:
        return
    uplink = resource.state.get("uplink", "")
    yield "up", yes(bridge.up)
    yield "addresses", words(shown(bridge))
    if uplink:
        yield "uplink", joined(uplink, bridge, seen)
    strangers = {name for name in bridge.members if not (name in seen.links and seen.links[name].ours)}
    yield "others joined", words(strangers - {uplink}) or "none"


def observed_nic(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    device = resource.state["card"]
    if resource.name in seen.links:
        yield "card", f"another, beside {device}" if device in seen.links else device


def observed_vlan(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    link = seen.links.get(resource.name)
    if link is None:
        return
    yield "carried by", link.carried if link.ours else "somebody else's interface"
    yield "up", yes(link.up)


def joined(uplink: str, bridge: Interface, seen: Seen) -> str:
    link = seen.links.get(uplink)
    if link is None or uplink not in bridge.members:
        return "none"
    return uplink if link.up else f"{uplink}, down"


def refusals(resources: Iterable[Resource], seen: Seen) -> Iterator[str]:
    """From FreeBSD 15 a bridge's member may hold no address, and before it loses its IPv6 ones (bridge(4))."""
    listed = list(resources)
    devices = {r.name: r.state["card"] for r in listed if r.type == "nic/1"}
    for resource in listed:
        uplink = resource.state.get("uplink", "") if resource.type == "switch/1" else ""
        link = seen.links.get(uplink) or seen.links.get(devices.get(uplink, ""))
        carries = shown(link) if link else ()
        if carries:
            yield (
                f"{uplink} carries {', '.join(carries)}: joining it to {resource.name} would cut the host off. "
                "Give the jails an interface of their own, or move the addresses to the bridge by hand first"
            )


def observed_port(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    nic, _, name = resource.undo.split("\x1f")
    link, ends = seen.links.get(nic), seen.room(name)
    inner, lo = ends.get(inside(nic)), ends.get("lo0")
    if link is not None and not link.ours:
        yield "switch", "somebody else's interface"
    if link is None or inner is None:
        return
    wanted = resource.state.get("host routes", "").split()
    yield from plugged(nic, inner, seen)
    yield "up", yes(link.up and inner.up and lo and lo.up)
    yield "routes", words(seen.room_routes(name))
    yield "host routes", words(seen.routed_to(resource.state["switch"]) & set(wanted))


def observed_plug(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    nic, name, _ = resource.undo.split("\x1f")
    link, inner = seen.links.get(nic), seen.room(name).get(inside(nic))
    if link is not None and not link.ours:
        yield "switch", "somebody else's interface"
    if link is None or inner is None:
        return
    yield from plugged(nic, inner, seen)
    yield "up", yes(link.up and inner.up)


def plugged(nic: str, inner: Interface, seen: Seen) -> Iterator[tuple[str, str]]:
    """What ports and plugs have in common."""
    bridge = next((other for other in seen.links.values() if nic in other.members), None)
    yield "switch", bridge.name if bridge else "none"
    yield "private", yes(bridge and "PRIVATE" in bridge.members[nic])
    yield "mac", inner.mac
    yield "addresses", words(shown(inner))


def observed_cable(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    first, first_nic, second, second_nic, _ = resource.undo.split("\x1f")
    jails = [key.partition(" ")[0] for key in resource.state if not key.startswith("/")]
    for jail, name, nic in zip(jails, (first, second), (first_nic, second_nic), strict=True):
        end = seen.room(name).get(nic)
        if end is not None:
            yield f"{jail} {nic}", end_state(end.mac, shown(end)) + ("" if end.up else ", down")


OBSERVERS: Mapping[str, Callable[[Resource, Seen], Iterator[tuple[str, str]]]] = {
    "nic/1": observed_nic,
    "vlan/1": observed_vlan,
    "switch/1": observed_switch,
    "port/1": observed_port,
    "plug/1": observed_plug,
    "cable/1": observed_cable,
}


def yes(value: object) -> str:
    return "yes" if value else "no"
