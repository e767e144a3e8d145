"""What a probe printed → an Observation, with the same attribute names as the Manifest's states.

In: the bytes, and the Manifest they were asked for. Out: where the two agree, the host is as it should be. A line
that is missing means the thing is missing. `probe.sh` says what each line means. Must not know how anything is
changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from reconciler.model import Manifest, Observation, Resource
from reconciler.platforms.linux import network
from reconciler.platforms.linux.machine import GRANTS
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

FIELDS = {"net": 2, "room": 3, "bad": 3, "hold": 2, "file": 5}
"""How many fields follow the tag, where the last one may hold tabs."""
SETTINGS = {"sysctl/1", "uplink/1"}
KEPT_UP = ("jail/1", "tunnel/1")
"""Types that systemd starts again when they end."""


@dataclass(frozen=True)
class LinuxLines(Lines):
    """With what only Linux says."""

    @cached_property
    def network(self) -> network.Seen:
        rooms: dict[str, dict[str, str]] = {}
        for name, table, body in self.of("room"):
            rooms.setdefault(name, {})[table] = body
        return network.Seen(self.pairs("net"), rooms)

    @cached_property
    def units(self) -> dict[str, dict[str, str]]:
        """Unit → property → value."""
        split = [dict(field.partition("=")[::2] for field in fields) for fields in self.of("unit")]
        return {unit["Id"]: unit for unit in split if "Id" in unit}

    @cached_property
    def inodes(self) -> dict[str, str]:
        return self.pairs("inode")

    def leader(self, supervisor: str) -> str:
        """A jail's first process."""
        return self.pairs("leader").get(supervisor, "")

    def grants(self, supervisor: str) -> str:
        """By the capabilities that a jail's first process could have."""
        bounds = int(self.pairs("bounds").get(self.leader(supervisor), "0"), 16)
        return " ".join(grant for grant, bit in GRANTS.items() if bounds >> bit & 1) or "none"

    def open_files(self, supervisor: str) -> str:
        """The limit of a jail's first process, which never changes its own; none is as much as its supervisor has."""
        limits = self.pairs("open")
        own = limits.get(self.leader(supervisor), "")
        limited = own.isdigit() and int(own) < int(limits.get(supervisor, own))
        return own if limited or not own else "infinity"


def parse(output: bytes, manifest: Manifest) -> Observation:
    lines = LinuxLines(grouped(output, FIELDS))
    refusals = network.refusals(manifest.resources, lines.network)
    seen = observation(manifest, lines, lambda r: runtime(r, lines), SETTINGS, degraded(manifest, lines), refusals)
    return replace(seen, disrupts=dict(snapshots(manifest))) if lines.of("sharing") else seen


def snapshots(manifest: Manifest) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Where storage can, a jail's data is copied before something else runs on it."""
    for resource in manifest.resources:
        if resource.type == "jail/1":
            yield resource.key, {"runs": f"{resource.disrupts['runs']}, snapshot first"}


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────


def runtime(resource: Resource, lines: LinuxLines) -> dict[str, str]:
    observe = RUNTIME.get(resource.type)
    return dict(observe(resource, lines)) if observe else {}


def observed_network(resource: Resource, lines: LinuxLines) -> Iterator[tuple[str, str]]:
    return iter(network.observed(resource, lines.network).items())


def observed_jail(resource: Resource, lines: LinuxLines) -> Iterator[tuple[str, str]]:
    name = resource.undo.partition("\x1f")[0]
    unit = lines.units.get(name, {})
    if unit.get("LoadState") in {None, "not-found"}:
        return
    yield "memory", mebibytes(unit.get("MemoryMax", ""))
    yield "processes", unit.get("TasksMax", "")
    yield "cpu", percent(unit.get("CPUQuotaPerSecUSec", ""))
    # systemd has drop-ins for all services as well, which are the administrator's
    own = [path for path in unit.get("DropInPaths", "").split() if path.split("/")[-2] == f"{name}.d"]
    yield "overrides", " ".join(own) or "none"
    pid = unit.get("MainPID", "0")
    # of what does not run there is only its file to be judged by
    yield "open files", lines.open_files(pid) or resource.state["open files"]
    started, runs = dict(observed_start(unit, resource.owner, lines)), bool(room_of(unit, lines))
    yield from started.items()
    if started:
        yield "mounts", "lost" if runs and lines.leader(pid) in lines.pairs("lost") else "whole"
        yield "grants", lines.grants(pid) if runs else resource.state["grants"]


def observed_tunnel(resource: Resource, lines: LinuxLines) -> Iterator[tuple[str, str]]:
    return observed_start(lines.units.get(resource.undo.partition("\x1f")[0], {}), resource.owner, lines)


def observed_start(unit: Mapping[str, str], jail: str, lines: LinuxLines) -> Iterator[tuple[str, str]]:
    """As what it was started, and in whose network."""
    pid = unit.get("MainPID", "0")
    if room := room_of(unit, lines):
        yield "runs", lines.pairs("runs").get(pid, "unknown")
        yield "network", "its own" if lines.inodes.get(f"/run/netns/{jail}") == room else "cut off"
    elif restarting(unit) or pid != "0":
        # between two lives (it may have ended while we looked): systemd starts it again, as the unit it has loaded
        yield "runs", unit.get("Environment", "").removeprefix("RECONCILER_RUNS=")
        yield "network", "its own"


def room_of(unit: Mapping[str, str], lines: LinuxLines) -> str:
    """The network namespace of what runs; "" when nothing does."""
    room = lines.inodes.get(f"/proc/{unit.get('MainPID', '0')}/ns/net", "")
    return room if unit.get("ActiveState") == "active" else ""


def restarting(unit: Mapping[str, str]) -> bool:
    """On its way: also one whose start waits for another unit, which shows as a job."""
    waits = unit.get("Job", "0") not in {"", "0"}
    return waits or unit.get("ActiveState") in {"activating", "reloading", "deactivating"}


def degraded(manifest: Manifest, lines: LinuxLines) -> Iterator[tuple[str, str]]:
    for resource in manifest.resources:
        name = resource.undo.partition("\x1f")[0]
        unit = lines.units.get(name, {}) if resource.type in KEPT_UP else {}
        if restarting(unit) and unit.get("SubState") == "auto-restart":
            what = "its command" if resource.type == "jail/1" else f"tunnel {resource.name}"
            yield resource.owner, f"{what} keeps ending (exit status {unit.get('ExecMainStatus', '?')})"


SPANS = {"y": 31557600, "month": 2629800, "w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3, "us": 1e-6}


def percent(span: str) -> str:
    """CPU time per second as `systemctl show` prints it ("1.500s", "2min 5s") → percent of a core."""
    if span in {"infinity", ""}:
        return span
    seconds = sum(float(n) * SPANS[unit] for n, unit in re.findall(r"([0-9.]+)(y|month|w|d|h|min|ms|us|s)", span))
    return f"{round(seconds * 100)}%"


RUNTIME: Mapping[str, Callable[[Resource, LinuxLines], Iterator[tuple[str, str]]]] = {
    "uplink/1": observed_network,
    "vlan/1": observed_network,
    "switch/1": observed_network,
    "port/1": observed_network,
    "plug/1": observed_network,
    "cable/1": observed_network,
    "sysctl/1": observed_sysctl,
    "ruleset/1": observed_ruleset,
    "tree/1": observed_tree,
    "data/1": observed_data,
    "jail/1": observed_jail,
    "tunnel/1": observed_tunnel,
}
