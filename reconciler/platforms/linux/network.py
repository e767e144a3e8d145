"""Switches, ports and cables: their one-line files for `network.sh`, and what `ip -j` says of them.

In: Parts, or the JSON that a probe printed. Out: Resources whose state names what can be seen (addresses, routes,
membership), and the same attributes as observed. A file here is both the boot state and what an apply calls, so that
the two cannot disagree. Must not know units, firewalls or files of jails.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from importlib.resources import files
from typing import Any

from reconciler.model import File, Jail, Link, LinkEnd, Nic, Resource, Switch, Vlan
from reconciler.platforms.files import ETC, NETWORK, STATE, digest, file_state
from reconciler.platforms.ground import REVERT
from reconciler.platforms.linux.paths import UNITS
from reconciler.platforms.steps import quote

FUNCTIONS = files("reconciler.platforms.linux").joinpath("network.sh").read_bytes()
UP = f"""#!/bin/sh
# Makes the whole network as it was; reconciler-network.service runs this at boot.
set -e
cd {NETWORK}
. ./functions.sh
alone
for file in [0-9]*; do
    # one jail's broken cable must not keep the others dark
    (set -e; . "./$file") || echo "$file failed" >&2
done
""".encode()
UNIT = f"""# Written by the reconciler; changes are overwritten.
[Unit]
Description=The reconciler's switches, ports and cables
Requires=reconciler-firewall.service
After=network.target reconciler-firewall.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {NETWORK}/up.sh
[Install]
WantedBy=multi-user.target
""".encode()
BACK = f"""# Written by the reconciler; changes are overwritten.
[Unit]
Description=What was applied and never confirmed is taken back
DefaultDependencies=no
RequiresMountsFor={ETC} {STATE}
Before=systemd-modules-load.service systemd-sysctl.service reconciler-firewall.service shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
ExecStart=/bin/sh {REVERT.path}
[Install]
WantedBy=sysinit.target
""".encode()
GROUP = "7547"
"""The kernel's group of the ports we made, as in network.sh."""
GATEWAY, GATEWAY4 = "fe80::1/64", "169.254.1.1/32"


def boot_files() -> tuple[File, ...]:
    """What brings the network back after a restart."""
    unit, back = "reconciler-network.service", "reconciler-revert.service"
    return (
        File(f"{NETWORK}/functions.sh", FUNCTIONS),
        File(f"{NETWORK}/up.sh", UP),
        REVERT,
        File(f"{UNITS}/{back}", BACK),
        File(f"{UNITS}/sysinit.target.wants/{back}", f"../{back}".encode(), kind="l"),
        File(f"{UNITS}/{unit}", UNIT),
        File(f"{UNITS}/multi-user.target.wants/{unit}", f"../{unit}".encode(), kind="l"),
    )


def line(function: str, *words: str) -> bytes:
    return (" ".join([function, *map(quote, words)]) + "\n").encode()


# ── what must be there ───────────────────────────────────────────────────────────────────────────────────────


def uplink(name: str) -> Resource:
    file = File(f"{NETWORK}/05-{name}", line("uplink", name))
    return Resource(
        f"uplink/1 {name}",
        "",
        {**file_state(file), "answers for jails": "yes"},
        (file,),
        f"interface {name} answers neighbour solicitations for jails",
    )


def vlan(part: Vlan) -> Resource:
    file = File(f"{NETWORK}/08-{part.name}", line("vlan", part.name, part.parent, str(part.tag)))
    state = {**file_state(file), "carried by": f"{part.parent} as {part.tag}", "up": "yes"}
    return Resource(f"vlan/1 {part.name}", "", state, (file,), f"VLAN {part.tag} of {part.parent}")


def switch(part: Switch) -> Resource:
    mode = "routed" if part.routed else "bridged"
    file = File(f"{NETWORK}/10-{part.name}", line("switch", part.name, mode, part.uplink or "-", *part.addresses))
    gateway = (GATEWAY, GATEWAY4) if part.routed else ()
    state = {"up": "yes", "snooping": "no", "addresses": words((*part.addresses, *gateway)), "others joined": "none"}
    if part.uplink:
        state["uplink"] = part.uplink
    return Resource(f"switch/1 {part.name}", "", {**file_state(file), **state}, (file,), f"switch {part.name}")


def port(jail: Jail, routed: bool) -> Resource:
    nic, mode = jail.nic, "routed" if routed else "bridged"
    addresses, gateways = " ".join(nic.addresses), " ".join(nic.gateways)
    announced = [address.partition("/")[0] for address in nic.addresses if address != nic.private]
    words_of = (jail.id, nic.host_side, nic.switch, nic.mac, mode, nic.announce or "-", addresses, gateways)
    body = line("port", *words_of, " ".join(announced))
    file = File(f"{NETWORK}/20-{jail.id}", body)
    state = {
        "switch": nic.switch,
        "isolated": "yes",
        "up": "yes",
        "mac": nic.mac,
        "addresses": words(nic.addresses),
        "routes": words(f"default {gateway}" for gateway in nic.gateways),
    }
    if routed:
        state["host routes"] = words(nic.addresses)
    if nic.announce:
        state["announced"] = words(announced)
    return Resource(
        f"port/1 {jail.id}",
        jail.id,
        {**file_state(file), **state},
        (file,),
        f"network interface of {jail.id}",
        claims=frozenset({nic.host_side, nic.mac, *nic.addresses}),
        undo="\x1f".join((nic.host_side, addresses, nic.switch, nic.announce or "-")),
        disrupts=dict.fromkeys(("addresses", "mac", "switch"), f"connections of jail {jail.id} break"),
    )


def plug(jail: Jail, nic: Nic) -> Resource:
    """A further interface: on a segment, without a way out. Stands after the jail's port."""
    body = line("plug", jail.id, nic.host_side, nic.host_side, nic.switch, nic.mac, " ".join(nic.addresses))
    file = File(f"{NETWORK}/25-{digest(f'{jail.id} {nic.host_side}'.encode())[:16]}", body)
    state = {
        "switch": nic.switch,
        "isolated": "yes",
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
        undo="\x1f".join((nic.host_side, jail.id, file.path)),
        disrupts=dict.fromkeys(("addresses", "mac", "switch"), f"connections of jail {jail.id} break"),
    )


def cable(link: Link) -> Resource:
    """Belongs to the jail that declares it; stands after both jails' ports."""
    ends = [(end.jail, end.nic, end.mac, " ".join(end.addresses)) for end in link.ends]
    file = File(f"{NETWORK}/30-{digest(link.id.encode())[:16]}", line("cable", *ends[0], *ends[1]))
    state = {f"{end.jail} {end.nic}": end_state(end.mac, end.addresses) for end in link.ends}
    first, second = link.ends
    return Resource(
        f"cable/1 {link.id}",
        first.jail,
        {**file_state(file), **state},
        (file,),
        f"cable from {first.jail} to {second.jail}",
        claims=frozenset(f"{end.jail}/{end.nic}" for end in link.ends),
        undo="\x1f".join((first.jail, first.nic, second.jail, second.nic, file.path)),
    )


def end_state(mac: str, addresses: Iterable[str]) -> str:
    return f"{mac} {words(addresses)}"


def words(values: Iterable[str]) -> str:
    return " ".join(sorted(values))


# ── what is there ────────────────────────────────────────────────────────────────────────────────────────────


class Seen:
    """The answers of `ip -j`, parsed when somebody asks."""

    def __init__(self, host: Mapping[str, str], rooms: Mapping[str, Mapping[str, str]]) -> None:
        """`host`: links, addresses, routes and neighbours → JSON; `rooms`: netns → addresses, routes → JSON."""
        self.host, self.rooms = host, rooms

    def table(self, name: str) -> list[dict[str, Any]]:
        return parsed(self.host.get(name, ""))

    @cached_property
    def links(self) -> dict[str, dict[str, Any]]:
        return {link["ifname"]: link for link in self.table("links") if "ifname" in link}

    @cached_property
    def addresses(self) -> dict[str, list[str]]:
        return {entry["ifname"]: shown(entry) for entry in self.table("addresses") if "ifname" in entry}

    @cached_property
    def routes(self) -> dict[str, set[str]]:
        """Device → the single addresses that are routed to it."""
        found: dict[str, set[str]] = {}
        for route in self.table("routes6") + self.table("routes4"):
            if route.get("protocol") != "kernel" and "gateway" not in route:
                found.setdefault(route.get("dev", ""), set()).add(single(route["dst"]))
        return found

    @cached_property
    def announced(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for neighbour in self.table("neighbours"):
            found.setdefault(neighbour["dev"], set()).add(neighbour["dst"])
        return found

    def room(self, jail: str) -> dict[str, dict[str, Any]]:
        entries = parsed(self.rooms.get(jail, {}).get("addresses", ""))
        return {entry["ifname"]: entry for entry in entries if "ifname" in entry}

    def room_routes(self, jail: str) -> list[str]:
        routes = parsed(self.rooms.get(jail, {}).get("routes", ""))
        return [f"{r['dst']} {r.get('gateway', 'direct')}" for r in routes if r.get("protocol") != "kernel"]


def parsed(text: str) -> list[dict[str, Any]]:
    """`ip` prints nothing at all, not [], when there is nothing; and a null or {} among the entries at times."""
    entries: list[dict[str, Any]] = json.loads(text) if text.strip() else []
    return [entry for entry in entries if entry]


def single(destination: str) -> str:
    return destination if "/" in destination else f"{destination}/{128 if ':' in destination else 32}"


def shown(entry: Mapping[str, Any]) -> list[str]:
    """Addresses with their lengths, without the link-local one that the kernel derives from the MAC."""
    return [
        f"{info['local']}/{info['prefixlen']}"
        for info in entry.get("addr_info", ())
        if "local" in info and not derived(info["local"])
    ]


def derived(address: str) -> bool:
    return address.startswith("fe80::") and address != "fe80::1"


def observed(resource: Resource, seen: Seen) -> dict[str, str]:
    """The runtime attributes of a resource of this module; empty when it is not there at all."""
    return dict(OBSERVERS[resource.type](resource, seen))


def observed_uplink(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    if resource.name in seen.links:
        answers = seen.host.get(f"proxy_ndp {resource.name}", "0").strip()
        yield "answers for jails", "yes" if answers == "1" else "no"


def observed_switch(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    link = seen.links.get(resource.name)
    if link is None:
        return
    yield "up", yes(is_up(link))
    yield "snooping", yes(link.get("linkinfo", {}).get("info_data", {}).get("mcast_snooping", 0))
    yield "addresses", words(seen.addresses.get(resource.name, ()))
    uplink = resource.state.get("uplink", "")
    if uplink:
        yield "uplink", joined(uplink, resource.name, seen)
    members = {
        n for n, link in seen.links.items() if link.get("master") == resource.name and link.get("group") != GROUP
    }
    yield "others joined", words(members - {uplink}) or "none"


def observed_vlan(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    link = seen.links.get(resource.name)
    if link is None:
        return
    tag = link.get("linkinfo", {}).get("info_data", {}).get("id")
    yield "carried by", f"{link.get('link')} as {tag}" if link.get("group") == GROUP else "somebody else's interface"
    yield "up", yes(is_up(link))


def joined(uplink: str, switch: str, seen: Seen) -> str:
    link = seen.links.get(uplink)
    if link is None or link.get("master") != switch:
        return "none"
    return uplink if is_up(link) else f"{uplink}, down"


def refusals(resources: Iterable[Resource], seen: Seen) -> Iterator[str]:
    """An interface with addresses of the host's own must not join a bridge: the host would be cut off."""
    for resource in resources:
        uplink = resource.state.get("uplink", "") if resource.type == "switch/1" else ""
        carries = seen.addresses.get(uplink, ())
        if uplink and carries:
            yield (
                f"{uplink} carries {', '.join(carries)}: joining it to {resource.name} would cut the host off. "
                "Give the jails an interface of their own, or move the addresses to the bridge by hand first"
            )


def observed_port(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    nic, _, bridge, announce = resource.undo.split("\x1f")
    room = seen.room(resource.name)
    link, inside = seen.links.get(nic), room.get("eth0")
    if link is None or inside is None:
        return
    wanted = set(resource.state["addresses"].split())
    yield from plugged(link, inside)
    yield "up", yes(is_up(link) and is_up(inside) and is_up(room.get("lo", {})))
    yield "routes", words(seen.room_routes(resource.name))
    yield "host routes", words(seen.routes.get(bridge, set()) & wanted)
    yield "announced", words(seen.announced.get(announce, set()) & {a.partition("/")[0] for a in wanted})


def observed_plug(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    nic, jail, _ = resource.undo.split("\x1f")
    link, inside = seen.links.get(nic), seen.room(jail).get(nic)
    if link is None or inside is None:
        return
    yield from plugged(link, inside)
    yield "up", yes(is_up(link) and is_up(inside))


def plugged(link: Mapping[str, Any], inside: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What ports and plugs have in common."""
    yield "switch", link.get("master", "none")
    flags = link.get("linkinfo", {}).get("info_slave_data", {})
    alone = flags.get("isolated") and not flags.get("learning") and not flags.get("flood")
    yield "isolated", yes(bool(alone))
    yield "mac", inside["address"]
    yield "addresses", words(shown(inside))


def observed_cable(resource: Resource, seen: Seen) -> Iterator[tuple[str, str]]:
    first, first_nic, second, second_nic, _ = resource.undo.split("\x1f")
    for jail, nic in ((first, first_nic), (second, second_nic)):
        end = seen.room(jail).get(nic)
        if end is not None:
            yield f"{jail} {nic}", end_state(end["address"], shown(end)) + ("" if is_up(end) else ", down")


OBSERVERS: Mapping[str, Callable[[Resource, Seen], Iterator[tuple[str, str]]]] = {
    "uplink/1": observed_uplink,
    "vlan/1": observed_vlan,
    "switch/1": observed_switch,
    "port/1": observed_port,
    "plug/1": observed_plug,
    "cable/1": observed_cable,
}


def is_up(link: Mapping[str, Any]) -> bool:
    return "UP" in link.get("flags", ())


def yes(value: object) -> str:
    return "yes" if value else "no"


def rooms(jails: Iterable[Jail], links: Iterable[Link]) -> list[str]:
    ends: list[LinkEnd] = [end for link in links for end in link.ends]
    return sorted({jail.id for jail in jails} | {end.jail for end in ends})
