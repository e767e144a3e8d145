"""What somebody's hand does to a host: for each attribute of each type of resource, the ways it comes to differ.

In: a Resource, an attribute of its state. Out: accidents, by name, each a function of the machine. An attribute that is
missing here is a KeyError: what can be seen can drift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from reconciler.model import File, Resource

from .linux import Debian, Interface, Process

Accident = Callable[[Debian], None]


def accidents(resource: Resource, attribute: str) -> Iterator[tuple[str, Accident]]:
    files = {file.path: file for file in resource.files}
    if attribute in files:
        return file_accidents(files[attribute])
    if resource.type == "data/1":
        return iter([("removed", lambda machine: machine.remove_tree(attribute))])
    if resource.type == "cable/1":
        return cable_accidents(*attribute.split())
    return iter([(name, bound(resource, by_hand)) for name, by_hand in RUNTIME[resource.type][attribute].items()])


def bound(resource: Resource, by_hand: Callable[[Debian, Resource], object]) -> Accident:
    return lambda machine: by_hand(machine, resource) and None


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def file_accidents(file: File) -> Iterator[tuple[str, Accident]]:
    if file.kind != "l":
        yield "chmod", lambda machine: edit(machine, file.path, mode=0o777)
        yield "chown", lambda machine: edit(machine, file.path, owner="1:1")
    if file.kind != "d":
        yield "edited", lambda machine: edit(machine, file.path, content=b"by hand\n")
        yield "removed", lambda machine: machine.delete(file.path)
        yield "another kind", lambda machine: edit(machine, file.path, kind="f" if file.kind == "l" else "l")


def edit(machine: Debian, path: str, **fields: object) -> None:
    machine.files[path] = replace(machine.files[path], **fields)  # type: ignore[arg-type]


# ── interfaces ───────────────────────────────────────────────────────────────────────────────────────────────


def change(room: str, name: str, **fields: object) -> Accident:
    def by_hand(machine: Debian) -> None:
        for field, value in fields.items():
            setattr(machine.interfaces[room, name], field, value)

    return by_hand


def cable_accidents(room: str, name: str) -> Iterator[tuple[str, Accident]]:
    yield "removed", lambda machine: machine.unplug(room, name)
    yield "down", change(room, name, up=False)
    yield "another MAC", change(room, name, mac="02:ff:ff:ff:ff:ff")
    yield "no address", change(room, name, addresses=set())
    yield "another address", lambda machine: machine.interfaces[room, name].addresses.add("10.9.9.9/24")


def switch(machine: Debian, resource: Resource) -> Interface:
    return machine.interfaces["", resource.name]


def outside(machine: Debian, resource: Resource) -> Interface:
    return machine.interfaces["", resource.undo.partition("\x1f")[0]]


def inside(machine: Debian, resource: Resource) -> Interface:
    return machine.interfaces[resource.name, "eth0"]


def further(machine: Debian, resource: Resource) -> Interface:
    nic, jail, _ = resource.undo.split("\x1f")
    return machine.interfaces[jail, nic]


def addresses(resource: Resource) -> list[str]:
    return resource.undo.split("\x1f")[1].split()


def forget_route(machine: Debian, resource: Resource) -> None:
    del machine.routes[""][addresses(resource)[0]]


def forget_announcement(machine: Debian, resource: Resource) -> None:
    machine.proxied = {(a, dev) for a, dev in machine.proxied if a != addresses(resource)[0].partition("/")[0]}


def release_uplink(machine: Debian, resource: Resource) -> None:
    machine.interfaces["", resource.state["uplink"]].master = ""


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────


def process(machine: Debian, resource: Resource) -> Process:
    return machine.processes[unit(resource)]


def unit(resource: Resource) -> str:
    return resource.undo.partition("\x1f")[0]


def set_property(name: str, value: str) -> Callable[[Debian, Resource], None]:
    def by_hand(machine: Debian, resource: Resource) -> None:
        process(machine, resource).settings = {**process(machine, resource).settings, name: value}

    return by_hand


def tamper(machine: Debian, resource: Resource) -> None:
    edit(machine, f"{resource.undo}/unpacked", content=b"backdoor")


def another_room(machine: Debian, resource: Resource) -> None:
    process(machine, resource).room = 1


ByHand = Callable[[Debian, Resource], object]
RUNTIME: dict[str, dict[str, dict[str, ByHand]]] = {
    "uplink/1": {
        "answers for jails": {"off": lambda machine, r: machine.settings.update({f"proxy_ndp {r.name}": "0"})},
    },
    "switch/1": {
        "up": {"down": lambda m, r: setattr(switch(m, r), "up", False), "gone": lambda m, r: m.unplug("", r.name)},
        "snooping": {"on": lambda m, r: setattr(switch(m, r), "snooping", True)},
        "addresses": {
            "none": lambda m, r: switch(m, r).addresses.clear(),
            "one more": lambda m, r: switch(m, r).addresses.add("2001:db8::bad/64"),
        },
        "uplink": {"released": release_uplink},
        "others joined": {"eth2": lambda m, r: setattr(m.interfaces["", "eth2"], "master", r.name)},
    },
    "vlan/1": {
        "carried by": {"another tag": lambda m, r: setattr(m.interfaces["", r.name], "carried", ("eth3", 8))},
        "up": {
            "down": lambda m, r: setattr(m.interfaces["", r.name], "up", False),
            "gone": lambda m, r: m.unplug("", r.name),
        },
    },
    "port/1": {
        "switch": {
            "moved": lambda m, r: setattr(outside(m, r), "master", "docker0"),
            "gone": lambda m, r: m.unplug(r.name, "eth0"),
        },
        "isolated": {"off": lambda m, r: setattr(outside(m, r), "isolated", False)},
        "up": {
            "down": lambda m, r: setattr(outside(m, r), "up", False),
            "down inside": lambda m, r: setattr(inside(m, r), "up", False),
            "lo down": lambda m, r: setattr(m.interfaces[r.name, "lo"], "up", False),
        },
        "mac": {"another": lambda m, r: setattr(inside(m, r), "mac", "02:ff:ff:ff:ff:ff")},
        "addresses": {
            "none": lambda m, r: inside(m, r).addresses.clear(),
            "one more": lambda m, r: inside(m, r).addresses.add("2001:db8::bad/128"),
        },
        "routes": {
            "none": lambda m, r: m.routes[r.name].clear(),
            "one more": lambda m, r: m.routes[r.name].update({"2001:db8:bad::/48 fe80::bad": ("eth0", "fe80::bad")}),
        },
        "host routes": {"forgotten": forget_route},
        "announced": {"forgotten": forget_announcement},
    },
    "plug/1": {
        "switch": {
            "moved": lambda m, r: setattr(outside(m, r), "master", "docker0"),
            "gone": lambda m, r: m.unplug("", r.undo.partition("\x1f")[0]),
        },
        "isolated": {"off": lambda m, r: setattr(outside(m, r), "isolated", False)},
        "up": {
            "down": lambda m, r: setattr(outside(m, r), "up", False),
            "down inside": lambda m, r: setattr(further(m, r), "up", False),
        },
        "mac": {"another": lambda m, r: setattr(further(m, r), "mac", "02:ff:ff:ff:ff:ff")},
        "addresses": {
            "none": lambda m, r: further(m, r).addresses.clear(),
            "one more": lambda m, r: further(m, r).addresses.add("192.168.56.99/24"),
        },
    },
    "sysctl/1": {"value": {"another": lambda m, r: m.settings.update({r.name: "2"})}},
    "ruleset/1": {
        "kernel": {
            "flushed": lambda m, r: setattr(m, "kernel", b""),
            "edited": lambda m, r: setattr(m, "kernel", b"x"),
        },
    },
    "tree/1": {"contents": {"tampered": tamper, "gone": lambda m, r: m.remove_tree(r.undo)}},
    "jail/1": {
        "memory": {"set-property": set_property("MemoryMax", "1048576")},
        "processes": {"set-property": set_property("TasksMax", "7")},
        "cpu": {"set-property": set_property("CPUQuota", "7%")},
        "open files": {"prlimit": lambda m, r: setattr(process(m, r), "open_files", "7")},
        "overrides": {"edited": lambda m, r: setattr(process(m, r), "overrides", f"/etc/systemd/system/{unit(r)}.d/x")},
        "runs": {
            "stopped": lambda m, r: m.no_machine(unit(r)),
            "started otherwise": lambda m, r: setattr(process(m, r), "runs", "something else"),
        },
        "network": {"cut off": another_room},
        "grants": {"all": lambda m, r: setattr(process(m, r), "bounds", -1 & 0xFFFFFF)},
        "mounts": {"lost": lambda m, r: setattr(process(m, r), "lost", True)},
    },
    "tunnel/1": {
        "runs": {
            "stopped": lambda m, r: m.no_machine(unit(r)),
            "started otherwise": lambda m, r: setattr(process(m, r), "runs", "something else"),
        },
        "network": {"cut off": another_room},
    },
}
"""Type → attribute → accident → what it does."""
