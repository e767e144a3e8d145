"""What a probe printed → an Observation, with the same attribute names as the Manifest's states.

In: the bytes, and the Manifest they were asked for. Out: where the two agree, the host is as it should be. A line
that is missing means the thing is missing. `probe.sh` says what each line means. Must not know how anything is
changed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from reconciler.model import Manifest, Observation, Resource
from reconciler.platforms.freebsd import anchor, datasets, network
from reconciler.platforms.freebsd.jail import LASTING, SETTINGS, granted
from reconciler.platforms.freebsd.probe import seal
from reconciler.platforms.freebsd.tunnel import INSIDE
from reconciler.platforms.probed import (
    Lines,
    grouped,
    mebibytes,
    observation,
    observed_data,
    observed_ruleset,
    observed_sysctl,
    observed_tree,
)

FIELDS = {"net": 2, "room": 3, "bad": 3, "hold": 2, "file": 5, "jail": 1, "process": 2, "limit": 1, "devices": 1}
FIELDS |= {"dataset": len(datasets.COLUMNS)}
LIMITS = ("memory", "processes", "cpu", "open files")
ALWAYS = {"sysctl/1", "module/1", "devices/1", "dataset/1", "nic/1"}
"""Types whose runtime value is there whether or not anybody wants one, or says itself whose it is."""


@dataclass(frozen=True)
class BsdLines(Lines):
    """With what only FreeBSD says."""

    @cached_property
    def network(self) -> network.Seen:
        host: dict[str, list[str]] = {}
        for table, text in self.of("net"):
            host.setdefault(table, []).append(text)
        rooms: dict[str, dict[str, list[str]]] = {}
        for name, table, text in self.of("room"):
            rooms.setdefault(name, {}).setdefault(table, []).append(text)
        return network.Seen(host, rooms)

    @cached_property
    def jails(self) -> dict[str, dict[str, str]]:
        """Name → parameter → value, of the jails that are not dying; a flag says true or false."""
        found = [parameters(fields[0]) for fields in self.of("jail")]
        return {jail["name"]: jail for jail in found if jail.get("dying") != "true" and "name" in jail}

    @cached_property
    def processes(self) -> dict[str, list[str]]:
        """Jail's name → its processes' command lines."""
        found: dict[str, list[str]] = {}
        for name, command in self.of("process"):
            found.setdefault(name, []).append(command)
        return found

    @cached_property
    def mounts(self) -> frozenset[tuple[str, str, str]]:
        """(source, target, "ro" or "rw")"""
        return frozenset((m[0], m[1], m[3].split(",")[0]) for m in self.of("mount") if len(m) > 3)

    @cached_property
    def limits(self) -> dict[tuple[str, str], str]:
        """(jail's name, resource) → amount, of the rules that deny."""
        split = [fields[0].split(":") for fields in self.of("limit")]
        return {(s[1], s[2]): s[3].removeprefix("deny=") for s in split if len(s) == 4 and s[3].startswith("deny=")}

    @cached_property
    def zfs(self) -> datasets.Seen:
        return datasets.seen(self.of("dataset"))

    @cached_property
    def anchors(self) -> frozenset[str]:
        """Rules of the administrator's that name ours."""
        return frozenset(fields[0] for fields in self.of("names"))

    @cached_property
    def facts(self) -> dict[str, str]:
        return self.pairs("fact")


def parameters(text: str) -> dict[str, str]:
    """`jls -n all`: name=value, and flags as `persist` or `nopersist`, `allow.mount` or `allow.nomount`."""
    found: dict[str, str] = {}
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        group, dot, last = key.rpartition(".")
        off = not equals and last.startswith("no")
        found[f"{group}{dot}{last[2:]}" if off else key] = value if equals else "false" if off else "true"
    return found


def parse(output: bytes, manifest: Manifest) -> Observation:
    lines = BsdLines(grouped(output, FIELDS))
    refusals = (
        *network.refusals(manifest.resources, lines.network),
        *datasets.refusals(manifest, lines.zfs, lines.facts.get("zfs", "")),
    )
    seen = observation(manifest, lines, lambda r: runtime(r, lines), ALWAYS, degraded(manifest, lines), refusals)
    before = [fields[0] for fields in lines.of("passes")]
    unwalled = anchor.refusals(manifest, seen.inventory, lines.anchors, before, lines.facts.get("pf", ""))
    seen = replace(seen, refusals=(*seen.refusals, *unwalled))
    return replace(seen, obstacles=dict(datasets.obstacles(manifest, lines.zfs, lines.files)))


def runtime(resource: Resource, lines: BsdLines) -> dict[str, str]:
    observe = RUNTIME.get(resource.type)
    return dict(observe(resource, lines)) if observe else {}


def observed_network(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    return iter(network.observed(resource, lines.network).items())


def observed_dataset(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    return datasets.observed(resource, lines.zfs)


def observed_module(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    yield "loaded", network.yes([resource.name] in lines.of("module"))


def observed_devices(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    yield "rules", "; ".join(fields[0] for fields in lines.of("devices"))


def observed_rules(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    yield from observed_ruleset(resource, lines)
    if lines.first("dump"):
        yield "enabled", network.yes(lines.facts.get("pf") == "Enabled")


def observed_anchor(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    """What is loaded and not named holds nobody."""
    for attribute, value in observed_ruleset(resource, lines, "anchor-"):
        yield attribute, value if anchor.named(lines.anchors) else "not in force"


def observed_root(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    made = lines.pairs("accounts").get(seal(resource))
    if made:
        yield "accounts", made


def observed_tunnel(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    program = lines.pairs("program").get(resource.name)
    if program:
        yield "program", program
    title = f"daemon: tunnel {resource.name} "
    commands = map(str.strip, lines.processes.get(resource.undo.partition("\x1f")[0], ()))
    if found := {command.removeprefix(title).partition("[")[0] for command in commands if command.startswith(title)}:
        # whoever runs in the jail can call itself anything: that is neither believed nor told, and starts nothing anew
        yield "runs", resource.state["runs"] if resource.state["runs"] in found else "another"


# ── jails ────────────────────────────────────────────────────────────────────────────────────────────────────


def observed_jail(resource: Resource, lines: BsdLines) -> Iterator[tuple[str, str]]:
    name = resource.undo.partition("\x1f")[0]
    jail = lines.jails.get(name)
    if jail is None:
        return
    yield "runs", jail.get("host.hostuuid", "unknown")
    yield "settings", " ".join(f"{key}={jail.get(key, 'unknown')}" for key in SETTINGS)
    yield "grants", granted(jail)
    yield "shared memory", "its own" if all(jail.get(key) == value for key, value in LASTING.items()) else "shared"
    yield "mounts", "whole" if wanted_mounts(resource) <= lines.mounts else "not whole"
    if "dataset" in resource.state:
        home = resource.undo.partition("\x1f")[2].removesuffix("/live")
        yield "dataset", datasets.mounted_at(home, lines.zfs) or "not mounted"
    yield "application", "kept up" if kept_up(resource.name, lines.processes.get(name, ())) else "not kept up"
    yield from observed_limits(resource, name, lines)


def wanted_mounts(resource: Resource) -> set[tuple[str, str, str]]:
    """From the fstab that is part of the resource: what is mounted is judged by what is to be."""
    table = next(file.content for file in resource.files if file.path.endswith(".fstab"))
    assert isinstance(table, bytes)
    entries = [line.split("\t") for line in table.decode().splitlines()]
    devices = ("devfs", f"{resource.undo.partition(chr(31))[2]}/dev", "rw")
    return {devices, *((source, target, options.split(",")[0]) for source, target, _, options, *_ in entries)}


def kept_up(id: str, commands: list[str] | tuple[str, ...]) -> bool:
    """daemon(8) is called after the jail, and lives as long as the command is started again and again."""
    return any(command.strip().startswith(f"daemon: {id}[") for command in commands)


def observed_limits(resource: Resource, name: str, lines: BsdLines) -> Iterator[tuple[str, str]]:
    """Where the kernel does not count, nothing can be changed: the status says so, and the plan does not ask again."""
    if lines.facts.get("racct") != "1":
        yield from ((key, resource.state[key]) for key in LIMITS)
        return
    limits = lines.limits
    yield "memory", mebibytes(limits.get((name, "vmemoryuse"), "infinity"))
    yield "processes", limits.get((name, "maxproc"), "infinity")
    cpu = limits.get((name, "pcpu"), "")
    yield "cpu", f"{cpu}%" if cpu else "infinity"
    yield "open files", limits.get((name, "openfiles"), "infinity")


def degraded(manifest: Manifest, lines: BsdLines) -> Iterator[tuple[str, str]]:
    yield from unlimited(manifest, lines)
    for resource in manifest.resources:
        if resource.type == "tunnel/1" and dict(observed_tunnel(resource, lines)).get("runs"):
            commands = lines.processes.get(resource.undo.partition("\x1f")[0], ())
            if not any(command.strip().startswith(f"{INSIDE}/{resource.name}/") for command in commands):
                yield resource.owner, f"tunnel {resource.name} keeps ending: `reconciler logs` says why"


def unlimited(manifest: Manifest, lines: BsdLines) -> Iterator[tuple[str, str]]:
    for resource in manifest.resources if lines.facts.get("racct") != "1" else ():
        limited = resource.type == "jail/1" and {resource.state[key] for key in LIMITS}
        if limited and limited != {"infinity"}:
            yield (
                resource.owner,
                "its limits are not in force: kern.racct.enable is off; "
                "add kern.racct.enable=1 to /boot/loader.conf and restart the host",
            )


RUNTIME: Mapping[str, Callable[[Resource, BsdLines], Iterator[tuple[str, str]]]] = {
    "nic/1": observed_network,
    "vlan/1": observed_network,
    "switch/1": observed_network,
    "port/1": observed_network,
    "plug/1": observed_network,
    "cable/1": observed_network,
    "dataset/1": observed_dataset,
    "module/1": observed_module,
    "devices/1": observed_devices,
    "sysctl/1": observed_sysctl,
    "ruleset/1": observed_rules,
    "anchor/1": observed_anchor,
    "tree/1": observed_tree,
    "data/1": observed_data,
    "root/1": observed_root,
    "jail/1": observed_jail,
    "tunnel/1": observed_tunnel,
}
