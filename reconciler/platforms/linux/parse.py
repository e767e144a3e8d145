"""What a probe printed → an Observation, with the same attribute names as the Manifest's states.

In: the bytes, and the Manifest they were asked for. Out: where the two agree, the host is as it should be. A line
that is missing means the thing is missing. `probe.sh` says what each line means. Must not know how anything is
changed.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.model import File, Manifest, Observation, Owned, Resource, Secret
from reconciler.platforms.files import file_digest
from reconciler.platforms.linux import network
from reconciler.platforms.steps import parse_entry

FIELDS = {"net": 2, "room": 3, "bad": 3, "hold": 2, "file": 5}
"""How many fields follow the tag, where the last one may hold tabs."""
SETTINGS = {"sysctl/1", "uplink/1"}
"""Types whose runtime value is there whether or not anybody wants one."""


@dataclass(frozen=True)
class Lines:
    """The probe's lines by their first word."""

    by_tag: Mapping[str, list[list[str]]]

    def of(self, tag: str) -> list[list[str]]:
        return self.by_tag.get(tag, [])

    def pairs(self, tag: str) -> dict[str, str]:
        return {fields[0]: fields[1] for fields in self.of(tag)}

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """Path → type, mode, owner, target."""
        return {fields[0]: fields[1:] for fields in self.of("file")}

    @cached_property
    def differing(self) -> dict[str, str]:
        return self.pairs("bad")

    @cached_property
    def salted(self) -> dict[str, str]:
        return self.pairs("salted")

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


def read(output: bytes) -> Lines:
    by_tag: dict[str, list[list[str]]] = {}
    for line in output.decode("utf-8", "replace").splitlines():
        tag, _, rest = line.partition("\t")
        by_tag.setdefault(tag, []).append(rest.split("\t", FIELDS[tag] - 1) if tag in FIELDS else rest.split("\t"))
    return Lines(by_tag)


def parse(output: bytes, manifest: Manifest) -> Observation:
    lines = read(output)
    states = {r.key: {**dict(file_states(r, lines)), **runtime(r, lines)} for r in manifest.resources}
    return Observation(
        states=states,
        present=frozenset(r.key for r in manifest.resources if present(r, states[r.key])),
        inventory=tuple(owned for owned in map(entry_of, lines.of("own")) if owned),
        token=next((fields[0] for fields in lines.of("token")), ""),
        contents={path: b64decode(body).decode("utf-8", "replace") for path, _, body in lines.of("bad")},
        degraded=dict(degraded(manifest, lines)),
        hold=next((f"since {date}: {text.strip()}" for date, text in lines.of("hold")), ""),
        refusals=(
            *(f"the command {fields[0]} is missing on the host" for fields in lines.of("need")),
            *(f"the inventory has a line that is not ours: {' '.join(f)}" for f in lines.of("own") if not entry_of(f)),
            *network.refusals(manifest.resources, lines.network),
        ),
    )


def entry_of(fields: list[str]) -> Owned | None:
    try:
        return parse_entry("\t".join(fields))
    except ValueError:
        return None


def present(resource: Resource, state: Mapping[str, str]) -> bool:
    """Directories are shared and settings are always there: neither says that somebody made this thing."""
    paths = {file.path for file in resource.files}
    if any(not value.startswith("directory ") for name, value in state.items() if name in paths):
        return True
    return resource.type not in SETTINGS and any(name not in paths for name in state)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def file_states(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    for file in resource.files:
        found = lines.files.get(file.path)
        if found:
            yield file.path, described(file, found, lines)


SPECIAL = {"p": "pipe", "s": "socket", "b": "device", "c": "device"}


def described(file: File, found: list[str], lines: Lines) -> str:
    """In the words of `paths.described`."""
    kind, mode, owner, target = found
    if kind == "l":
        return f"link to {target}"
    access = f"{int(mode, 8):04o} {owner}"
    if kind == "d":
        return f"directory {access}"
    if kind != "f":
        return f"{SPECIAL.get(kind, 'something else')} {access}"
    if isinstance(file.content, Secret):
        return f"{access} {lines.salted.get(file.path, '')}"
    return f"{access} {lines.differing.get(file.path) or file_digest(file)}"


# ── what runs ────────────────────────────────────────────────────────────────────────────────────────────────


def runtime(resource: Resource, lines: Lines) -> dict[str, str]:
    observe = RUNTIME.get(resource.type)
    return dict(observe(resource, lines)) if observe else {}


def observed_tree(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    verdict = lines.pairs("tree").get(resource.name)
    if verdict:
        yield "contents", verdict


def observed_sysctl(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    yield "value", lines.pairs("sysctl").get(resource.name, "")


def observed_data(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    for path, state in resource.state.items():
        if state == "there" and lines.files.get(path, [""])[0] == "d":
            yield path, "there"


def observed_ruleset(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    """What the kernel holds is the file it was loaded from, as long as its own dump is the one taken right after."""
    dump = next((fields[0] for fields in lines.of("dump")), "")
    if dump:
        loaded, _, then = next((fields[0] for fields in lines.of("stamp")), "").partition(" ")
        yield "kernel", loaded if dump == then else "changed by hand"


def observed_network(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    return iter(network.observed(resource, lines.network).items())


def observed_jail(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    unit = lines.units.get(resource.undo, {})
    if unit.get("LoadState") in {None, "not-found"}:
        return
    yield "memory", mebibytes(unit.get("MemoryMax", ""))
    yield "processes", unit.get("TasksMax", "")
    yield "cpu", percent(unit.get("CPUQuotaPerSecUSec", ""))
    # systemd has drop-ins for all services as well, which are the administrator's
    own = [path for path in unit.get("DropInPaths", "").split() if path.split("/")[-2] == f"{resource.undo}.d"]
    yield "overrides", " ".join(own) or "none"
    pid = unit.get("MainPID", "0")
    theirs = lines.inodes.get(f"/proc/{pid}/ns/net")
    if theirs and unit.get("ActiveState") == "active":
        yield "runs", lines.pairs("runs").get(pid, "unknown")
        yield "network", "its own" if lines.inodes.get(f"/run/netns/{resource.name}") == theirs else "cut off"
        yield "mounts", "lost" if pid in lines.pairs("lost") else "whole"
    elif restarting(unit) or pid != "0":
        # between two lives (it may have ended while we looked): systemd starts it again, as the unit it has loaded
        yield "runs", unit.get("Environment", "").removeprefix("RECONCILER_RUNS=")
        yield "network", "its own"
        yield "mounts", "whole"


def restarting(unit: Mapping[str, str]) -> bool:
    """On its way: also one whose start waits for another unit, which shows as a job."""
    waits = unit.get("Job", "0") not in {"", "0"}
    return waits or unit.get("ActiveState") in {"activating", "reloading", "deactivating"}


def degraded(manifest: Manifest, lines: Lines) -> Iterator[tuple[str, str]]:
    for resource in manifest.resources:
        unit = lines.units.get(resource.undo, {}) if resource.type == "jail/1" else {}
        if restarting(unit) and unit.get("SubState") == "auto-restart":
            yield resource.owner, f"its command keeps ending (exit status {unit.get('ExecMainStatus', '?')})"


def mebibytes(size: str) -> str:
    """Bytes → Mi; what is not a whole number of them was not written by us and stays as it is."""
    return f"{int(size) >> 20}Mi" if size.isdigit() and int(size) % (1 << 20) == 0 else size


SPANS = {"y": 31557600, "month": 2629800, "w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1, "ms": 1e-3, "us": 1e-6}


def percent(span: str) -> str:
    """CPU time per second as `systemctl show` prints it ("1.500s", "2min 5s") → percent of a core."""
    if span in {"infinity", ""}:
        return span
    seconds = sum(float(n) * SPANS[unit] for n, unit in re.findall(r"([0-9.]+)(y|month|w|d|h|min|ms|us|s)", span))
    return f"{round(seconds * 100)}%"


RUNTIME: Mapping[str, Callable[[Resource, Lines], Iterator[tuple[str, str]]]] = {
    "uplink/1": observed_network,
    "switch/1": observed_network,
    "port/1": observed_network,
    "cable/1": observed_network,
    "sysctl/1": observed_sysctl,
    "ruleset/1": observed_ruleset,
    "tree/1": observed_tree,
    "data/1": observed_data,
    "jail/1": observed_jail,
}
