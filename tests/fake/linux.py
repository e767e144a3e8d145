"""A Debian host made of dictionaries: files, interfaces, namespaces, units, one ruleset, as far as our steps reach.

In: Steps of `platforms.steps`, one at a time, each carried out as `apply.sh` and `network.sh` do. Out: the lines that
`probe.sh` would print. Tests reach in with their own hands, as an administrator would. Must not know plans.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from reconciler.model import File, Manifest, Owned, Secret
from reconciler.platforms.files import ETC, STATE, digest, file_digest
from reconciler.platforms.linux.paths import UNITS
from reconciler.platforms.steps import Call, Delete, Put, Step, content, entry, parse_entry

INVENTORY = f"{STATE}/inventory"
OURS = "7547"
"""The kernel's group of the ports that `network.sh` made."""
NEEDED = ("ip", "bridge", "nft", "systemd-nspawn", "nsenter", "setpriv", "flock", "base64", "awk")
RUNNING = ("reconciler-jail-", "reconciler-tunnel-")
"""How units begin that have a process of their own; all others are done once they have started."""
FOR_ITSELF = ("fe80::1/64", "169.254.1.1/32")
"""Addresses of scope link: `settle` leaves them alone."""


class StepFailed(Exception):
    """What a step says before it ends with a status other than 0."""


BROKEN = (StepFailed, KeyError, TypeError, ValueError)
"""How reading a file ends in which somebody has written something else."""
fingerprint = lru_cache(1 << 14)(digest)
"""A probe asks for the digests of all files, and most stay as they are."""


@lru_cache(1 << 10)
def entries(inventory: bytes) -> tuple[Owned, ...]:
    return tuple(parse_entry(line) for line in inventory.decode().splitlines() if not line.startswith("#"))


@dataclass(frozen=True)
class Node:
    """A file, directory or link as it lies there."""

    kind: str
    mode: int = 0o755
    owner: str = "0:0"
    content: bytes = b""

    def __deepcopy__(self, memo: object) -> Node:
        return self


@dataclass
class Interface:
    kind: str
    mac: str = "02:00:00:00:00:00"
    up: bool = False
    master: str = ""
    isolated: bool = False
    snooping: bool = False
    addresses: set[str] = field(default_factory=set)
    peer: tuple[str, str] | None = None
    carried: tuple[str, int] = ("", 0)
    """Of a VLAN: its parent and its tag."""


@dataclass
class Process:
    """What a unit runs: as it was started, whatever its file says by now."""

    runs: str
    room: int
    settings: dict[str, str]
    overrides: str = ""
    """A drop-in of `systemctl edit`."""
    lost: bool = False
    """Something it had mounted was removed under it."""
    open_files: str = "524288"
    """The limit of its first process."""
    bounds: int = 0
    """Its capabilities."""


Routes = dict[str, tuple[str, str]]
"""Destination → (device, gateway or "")."""


class Debian:
    def __init__(self) -> None:
        self.files: dict[str, Node] = {"/": Node("d")}
        self.interfaces: dict[tuple[str, str], Interface] = {
            ("", name): Interface("physical", up=True) for name in ("eth0", "eth1", "eth2", "eth3")
        }
        self.rooms: dict[str, int] = {}
        self.routes: dict[str, Routes] = {"": {}}
        self.proxied: set[tuple[str, str]] = set()
        self.settings: dict[str, str] = {}
        self.kernel: bytes = b""
        self.processes: dict[str, Process] = {}
        self.commands = {*NEEDED, "spiped"}
        self.seals: dict[str, bytes] = {}
        self.shares = False
        """Whether a copy of a file takes no room."""
        self.armed = False
        """Somebody waits for what was applied to be confirmed."""
        self.refused: set[str] = set()
        """What was not."""
        self._inodes = itertools.count(1000)

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def carry_out(self, step: Step) -> None:
        match step:
            case Put(file):
                self.put(file)
            case Delete(path):
                self.delete(path)
            case Call(function, words):
                CALLS[function](self, *words)

    def put(self, file: File) -> None:
        there = self.files.get(file.path)
        if file.kind == "f" and there and there.kind == "d":
            raise StepFailed(f"{file.path} is a directory")
        self.parents(file.path)
        mode = 0o777 if file.kind == "l" else file.mode
        self.files[file.path] = Node(file.kind, mode, file.owner, b"" if file.kind == "d" else content(file))

    def parents(self, path: str) -> None:
        while path := path.rpartition("/")[0]:
            self.files.setdefault(path, Node("d", 0o700))

    def delete(self, path: str) -> None:
        if not any(below.startswith(f"{path}/") for below in self.files):
            self.files.pop(path, None)

    def below(self, path: str) -> list[str]:
        return [p for p in self.files if p == path or p.startswith(f"{path}/")]

    # ── inventory ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def token(self) -> str:
        return fingerprint(self.files[INVENTORY].content) if INVENTORY in self.files else "none"

    @property
    def inventory(self) -> tuple[Owned, ...]:
        return entries(self.files[INVENTORY].content) if INVENTORY in self.files else ()

    def write_inventory(self, entries: list[Owned], same_serial: bool = False) -> None:
        text = self.files[INVENTORY].content.decode() if INVENTORY in self.files else "# serial 0\n"
        before = int(text.partition("\n")[0].removeprefix("# serial "))
        lines = [f"# serial {before if same_serial else before + 1}", *map(entry, entries)]
        self.put(File(INVENTORY, "".join(f"{line}\n" for line in lines).encode(), 0o600))

    def own(self, key: str, after: Owned | None) -> None:
        """`own` with an entry, `disown` without."""
        kept = [after if owned.key == key else owned for owned in self.inventory]
        self.write_inventory([owned for owned in kept if owned], same_serial=True)

    # ── network: `network.sh`, function by function ──────────────────────────────────────────────────────────

    def network(self, verb: str, *words: str) -> None:
        if verb == "run":
            verb, *words = shlex.split(self.files[words[0]].content.decode())  # type: ignore[assignment]
        NETWORK[verb](self, *words)

    def uplink(self, name: str) -> None:
        self.settings[f"proxy_ndp {name}"] = "1"

    def vlan(self, name: str, parent: str, tag: str) -> None:
        self.to_be_had(name)
        there = self.interfaces.get(("", name))
        if there is None or there.carried != (parent, int(tag)):
            self.unplug("", name)
            master = there.master if there else ""
            self.interfaces["", name] = Interface("vlan", master=master, carried=(parent, int(tag)))
        self.interfaces["", parent].up = self.interfaces["", name].up = True

    def switch(self, name: str, mode: str, port: str, *addresses: str) -> None:
        bridge = self.interfaces.setdefault(("", name), Interface("bridge"))
        bridge.up, bridge.snooping = True, False
        self.settle("", name, addresses)
        for (room, other), interface in self.interfaces.items():
            if not room and interface.master == name and interface.kind != "veth" and other != port:
                interface.master = ""
        bridge.addresses = bridge.addresses - set(FOR_ITSELF) | set(FOR_ITSELF if mode == "routed" else ())
        if port != "-":
            self.interfaces["", port].master, self.interfaces["", port].up = name, True

    def no_switch(self, name: str) -> None:
        self.unplug("", name)

    def unplug(self, room: str, name: str) -> None:
        """An interface goes: so do its other end, the routes through it, and its ports' membership."""
        gone = self.interfaces.pop((room, name), None)
        if gone is None:
            return
        self.routes[room] = {to: via for to, via in self.routes[room].items() if via[0] != name}
        for (other_room, _), other in self.interfaces.items():
            if other_room == room and other.master == name:
                other.master, other.isolated = "", False
        if gone.peer:
            self.unplug(*gone.peer)

    def room(self, name: str) -> None:
        if name not in self.rooms:
            self.rooms[name] = next(self._inodes)
            self.routes[name] = {}
            self.interfaces[name, "lo"] = Interface("loopback")
        self.interfaces[name, "lo"].up = True

    def pair(self, one: tuple[str, str], other: tuple[str, str], mac: str = "", other_mac: str = "") -> None:
        if one in self.interfaces or other in self.interfaces:
            raise StepFailed("RTNETLINK answers: File exists")
        self.interfaces[one] = Interface("veth", mac or "02:00:00:00:00:01", peer=other)
        self.interfaces[other] = Interface("veth", other_mac, peer=one)

    def settle(self, room: str, name: str, addresses: tuple[str, ...] | list[str]) -> None:
        interface = self.interfaces[room, name]
        interface.addresses = {a for a in interface.addresses if a in FOR_ITSELF} | set(addresses)

    def port(
        self,
        jail: str,
        nic: str,
        bridge: str,
        mac: str,
        mode: str,
        announce: str,
        addresses: str,
        gateways: str,
        announced: str,
    ) -> None:
        self.plug(jail, "eth0", nic, bridge, mac, addresses)
        self.routes[jail] = {f"default {gateway}": ("eth0", gateway) for gateway in gateways.split()}
        for address in addresses.split() if mode == "routed" else ():
            self.routes[""][address] = (bridge, "")
        self.proxied |= {(address, announce) for address in announced.split() if announce != "-"}

    def plug(self, jail: str, inner: str, nic: str, bridge: str, mac: str, addresses: str) -> None:
        self.room(jail)
        if ("", nic) not in self.interfaces or (jail, inner) not in self.interfaces:
            self.to_be_had(nic)
            self.unplug("", nic)
            self.unplug(jail, inner)
            self.pair(("", nic), (jail, inner), other_mac=mac)
        if ("", bridge) not in self.interfaces:
            raise StepFailed(f"Device does not exist: {bridge}")
        outside, inside = self.interfaces["", nic], self.interfaces[jail, inner]
        outside.master, outside.up, outside.isolated = bridge, True, True
        inside.mac, inside.up = mac, True
        self.settle(jail, inner, addresses.split())

    def to_be_had(self, nic: str) -> None:
        if ("", nic) in self.interfaces and self.interfaces["", nic].kind not in ("veth", "vlan"):
            raise StepFailed(f"the host has an interface {nic} already")

    def leave(self, addresses: str, bridge: str, announce: str) -> None:
        for address in addresses.split():
            if self.routes[""].get(address, ("", ""))[0] == bridge:
                del self.routes[""][address]
            self.proxied.discard((address.partition("/")[0], announce))

    def no_port(self, jail: str, nic: str) -> None:
        self.unplug("", nic)
        for room, name in list(self.interfaces):
            if room == jail:
                self.unplug(room, name)
        if self.rooms.pop(jail, None):
            del self.routes[jail]

    def cable(self, *words: str) -> None:
        first, second = (words[0], words[1]), (words[4], words[5])
        self.room(first[0])
        self.room(second[0])
        if first not in self.interfaces or second not in self.interfaces:
            self.no_cable(*first)
            self.no_cable(*second)
            self.pair(first, second)
        for end, mac, addresses in ((first, *words[2:4]), (second, *words[6:8])):
            self.interfaces[end].mac, self.interfaces[end].up = mac, True
            self.settle(*end, addresses.split())

    def no_cable(self, room: str, nic: str) -> None:
        self.unplug(room, nic)

    # ── the other functions of the prelude ───────────────────────────────────────────────────────────────────

    def fail(self, words: str) -> None:
        raise StepFailed(words)

    def set_sysctl(self, key: str, value: str) -> None:
        self.settings[key] = value

    def load_rules(self, candidate: str, path: str) -> None:
        self.files[path] = self.files.pop(candidate)
        self.kernel = self.files[path].content
        stamp = f"{digest(self.kernel)} {digest(self.kernel)}\n"
        self.put(File(f"{STATE}/firewall.stamp", stamp.encode()))

    def no_rules(self) -> None:
        self.kernel = b""
        self.delete(f"{STATE}/firewall.stamp")

    def unpack(self, archive: str, directory: str) -> None:
        if archive not in self.files:
            raise StepFailed(f"tar: {archive}: Cannot open: No such file or directory")
        self.put(File(directory, kind="d"))
        self.put(File(f"{directory}/unpacked", self.files[archive].content))
        self.seals[directory] = self.looks(directory)

    def looks(self, directory: str) -> bytes:
        return repr([(path, self.files[path]) for path in sorted(self.below(directory))]).encode()

    def remove_tree(self, directory: str) -> None:
        self.seals.pop(directory, None)
        for path in self.below(directory):
            del self.files[path]

    def places(self, *paths: str) -> None:
        for path in paths:
            if path not in self.files:
                self.put(File(path, mode=0o755, kind="d"))

    def retain(self, directory: str, day: str) -> None:
        if directory in self.files:
            self.put(File(f"{directory}/retained", f"{day}\n".encode()))

    def unretain(self, directory: str) -> None:
        self.delete(f"{directory}/retained")

    def purge(self, home: str, jail: str, day: str) -> None:
        for name, wanted in (("owner", jail), ("retained", day)) if home in self.files else ():
            found = self.files.get(f"{home}/{name}", Node("f")).content.decode().strip()
            if found != wanted:
                raise StepFailed(f"{home}/{name} does not say {wanted}")
        for path in self.below(home):
            del self.files[path]

    def snapshot(self, unit: str, home: str, name: str) -> None:
        if self.shares and name:
            self.put(File(f"{home}/snapshots/{name}", kind="d"))

    def machine(self, unit: str, verb: str) -> None:
        if unit in self.processes:
            self.processes[unit].settings, self.processes[unit].overrides = self.unit(unit), ""
        if verb == "restart" or (verb == "start" and unit not in self.processes):
            self.start(unit)

    def open_files(self, unit: str, most: str) -> None:
        self.processes[unit].open_files = "524288" if most == "infinity" else most

    def reload_units(self, unit: str) -> None:
        """What systemd goes by is read anew whenever it is asked for here."""

    def no_machine(self, unit: str) -> None:
        self.processes.pop(unit, None)

    def spiped_is_there(self) -> None:
        if "spiped" not in self.commands:
            raise StepFailed("spiped is not installed on this host: apt-get install spiped")

    def unit(self, name: str) -> dict[str, str]:
        """Its file, as systemd understands it."""
        text = self.files[f"{UNITS}/{name}"].content.decode()
        return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)

    def start(self, name: str) -> None:
        settings = self.unit(name)
        jail = name.removeprefix("reconciler-jail-").removesuffix(".service")
        jail = settings.get("NetworkNamespacePath", jail).rpartition("/")[2]
        if jail not in self.rooms:
            raise StepFailed(f"cannot open /run/netns/{jail}: No such file or directory")
        self.processes[name] = Process(
            settings["Environment"].removeprefix("RECONCILER_RUNS="), self.rooms[jail], settings
        )
        limited = re.search(r"--rlimit=NOFILE=(\d+)", settings["ExecStart"])
        self.open_files(name, limited[1] if limited else "infinity")
        debugs, locks = "CAP_SYS_PTRACE" not in settings["ExecStart"], "CAP_IPC_LOCK" in settings["ExecStart"]
        self.processes[name].bounds = debugs << 19 | locks << 14

    def reboot(self) -> None:
        """Only what is on disk comes back."""
        self.processes, self.rooms, self.routes, self.proxied, self.kernel = {}, {}, {"": {}}, set(), b""
        self.interfaces = {k: i for k, i in self.interfaces.items() if i.kind == "physical"}
        for interface in self.interfaces.values():
            interface.master = ""
        self.settings = {}
        self.start_up()

    def start_up(self) -> None:
        """A file that somebody has broken, or taken away, keeps nothing else dark."""
        for name in self.units("sysinit.target"):
            with suppress(*BROKEN):
                if "nft" in (command := self.unit(name)["ExecStart"]):
                    self.kernel = self.files[command.split()[-1]].content
        conf = self.files.get("/etc/sysctl.d/99-reconciler.conf", Node("f")).content.decode()
        self.settings |= dict(line.split(" = ") for line in conf.splitlines() if " = " in line)
        for path in sorted(p for p in self.files if p.startswith(f"{ETC}/network/") and p[len(ETC) + 9].isdigit()):
            with suppress(*BROKEN):
                self.network("run", path)
        for name in self.units("multi-user.target"):
            if name.startswith(RUNNING):
                with suppress(*BROKEN):
                    self.start(name)

    def units(self, target: str) -> list[str]:
        return sorted(p.rpartition("/")[2] for p in self.files if p.startswith(f"{UNITS}/{target}.wants/"))

    # ── looking ──────────────────────────────────────────────────────────────────────────────────────────────

    def probe(self, manifest: Manifest) -> bytes:
        lines = itertools.chain(
            self.about_inventory(), self.about_files(manifest), self.about_network(), self.about_units(manifest),
            self.about_trees(manifest), self.about_settings(manifest), self.about_rules(),
        )  # fmt: skip
        return "".join("\t".join(line) + "\n" for line in lines).encode()

    def about_inventory(self) -> Iterator[tuple[str, ...]]:
        for command in NEEDED:
            if command not in self.commands:
                yield "need", f"the command {command}"
        hold = self.files.get(f"{ETC}/hold")
        if hold:
            yield "hold", "2024-01-01", hold.content.decode()
        yield "token", self.token
        if self.armed:
            yield "armed", "1.armed"
        for ground in sorted(self.refused):
            yield "refused", ground
        yield from (("own", entry(owned)) for owned in self.inventory)

    def about_files(self, manifest: Manifest) -> Iterator[tuple[str, ...]]:
        for path, node in self.files.items():
            target = node.content.decode() if node.kind == "l" else ""
            yield "file", path, node.kind, f"{node.mode:o}", node.owner, target
        for file in (file for resource in manifest.resources for file in resource.files):
            found = self.files.get(file.path)
            if found and isinstance(file.content, Secret):
                yield "salted", file.path, digest(file.content.salt.encode() + found.content)
            elif found and file.kind == found.kind == "f" and fingerprint(found.content) != file_digest(file):
                yield "bad", file.path, fingerprint(found.content), b64encode(found.content).decode()

    def about_network(self) -> Iterator[tuple[str, ...]]:
        links = [shown_link(name, i) for (room, name), i in self.interfaces.items() if not room]
        yield "net", "links", json.dumps(links)
        yield "net", "addresses", json.dumps(self.shown_addresses(""))
        six, four = self.shown_routes("")
        yield "net", "routes6", json.dumps(six)
        yield "net", "routes4", json.dumps(four)
        yield "net", "neighbours", json.dumps([{"dst": dst, "dev": dev} for dst, dev in sorted(self.proxied)])
        for key, value in self.settings.items():
            if key.startswith("proxy_ndp "):
                yield "net", key, value
        for room in self.rooms:
            six, four = self.shown_routes(room)
            yield "room", room, "addresses", json.dumps(self.shown_addresses(room))
            yield "room", room, "routes", json.dumps([*four, *six])

    def shown_addresses(self, room: str) -> list[dict[str, object]]:
        return [
            {"ifname": name, "flags": up(i), "address": i.mac, "addr_info": list(map(shown, i.addresses))}
            for (where, name), i in self.interfaces.items()
            if where == room
        ]

    def shown_routes(self, room: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        six, four = [], []
        for to, (device, gateway) in self.routes[room].items():
            route = {"dst": to.split()[0].removesuffix("/128").removesuffix("/32"), "dev": device}
            (six if ":" in to else four).append({**route, **({"gateway": gateway} if gateway else {})})
        return six, four

    def about_units(self, manifest: Manifest) -> Iterator[tuple[str, ...]]:
        names = sorted(r.undo.partition("\x1f")[0] for r in manifest.resources if r.type in ("jail/1", "tunnel/1"))
        for number, name in enumerate(names, start=1):
            process = self.processes.get(name)
            if process is None and f"{UNITS}/{name}" not in self.files:
                yield "unit", f"Id={name}", "LoadState=not-found", "MainPID=0"
                continue
            settings = process.settings if process else self.unit(name)
            cpu = settings.get("CPUQuota", "infinity")
            yield (
                "unit", f"Id={name}", "LoadState=loaded", f"ActiveState={'active' if process else 'inactive'}",
                f"MainPID={number if process else 0}", f"MemoryMax={settings.get('MemoryMax', 'infinity')}",
                f"TasksMax={settings.get('TasksMax', 'infinity')}",
                f"DropInPaths={process.overrides if process else ''}",
                f"CPUQuotaPerSecUSec={cpu if cpu == 'infinity' else f'{int(cpu[:-1]) * 10}ms'}",
            )  # fmt: skip
            if process:
                yield "runs", str(number), process.runs
                yield "inode", f"/proc/{number}/ns/net", str(process.room)
                yield "leader", str(number), str(number + 1000)
                yield "bounds", str(number + 1000), f"{process.bounds:x}"
                yield "open", str(number), "524288"
                yield "open", str(number + 1000), process.open_files
                if process.lost:
                    yield "lost", str(number + 1000), ""
        for room, inode in self.rooms.items():
            yield "inode", f"/run/netns/{room}", str(inode)

    def about_trees(self, manifest: Manifest) -> Iterator[tuple[str, ...]]:
        for resource in manifest.resources:
            if resource.type == "tree/1" and resource.undo in self.files:
                sealed = self.seals.get(resource.undo) == self.looks(resource.undo)
                yield "tree", resource.name, "as sealed" if sealed else "changed"

    def about_settings(self, manifest: Manifest) -> Iterator[tuple[str, ...]]:
        for resource in manifest.resources:
            if resource.type == "sysctl/1":
                yield "sysctl", resource.name, self.settings.get(resource.name, "0")

    def about_rules(self) -> Iterator[tuple[str, ...]]:
        if self.shares:
            yield "sharing", STATE
        if self.kernel:
            yield "dump", digest(self.kernel)
        stamp = self.files.get(f"{STATE}/firewall.stamp")
        if stamp:
            yield "stamp", stamp.content.decode().strip()


CALLS: dict[str, Callable[..., None]] = {
    name: getattr(Debian, name)
    for name in (
        "network", "fail", "set_sysctl", "load_rules", "no_rules", "unpack", "remove_tree", "places", "retain",
        "unretain", "purge", "snapshot", "machine", "open_files", "no_machine", "reload_units", "spiped_is_there",
    )
}  # fmt: skip
"""Functions of the prelude. One that is missing here is a KeyError: a new step wants its effect."""
NETWORK: dict[str, Callable[..., None]] = {
    name: getattr(Debian, name)
    for name in (
        "uplink",
        "vlan",
        "switch",
        "no_switch",
        "to_be_had",
        "port",
        "plug",
        "leave",
        "no_port",
        "cable",
        "no_cable",
    )
}


def up(interface: Interface) -> list[str]:
    return ["UP"] if interface.up else []


def shown(address: str) -> dict[str, object]:
    local, _, length = address.partition("/")
    return {"local": local, "prefixlen": int(length)}


def shown_link(name: str, interface: Interface) -> dict[str, object]:
    """One entry of `ip -j -d link show`."""
    info: dict[str, object] = {"info_data": {"mcast_snooping": int(interface.snooping)}}
    if interface.master:
        info["info_slave_data"] = {"isolated": interface.isolated}
    parent, tag = interface.carried
    if parent:
        info["info_data"] = {"id": tag}
    group = OURS if interface.kind in ("veth", "vlan") else "default"
    entry = {"ifname": name, "flags": up(interface), "linkinfo": info, "group": group}
    entry |= {"link": parent} if parent else {}
    return {**entry, **({"master": interface.master} if interface.master else {})}
