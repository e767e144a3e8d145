"""ZFS: the host's own datasets and one a jail below them, as the properties that zfs(8) sets and shows.

In: a HostSpec and its Jails, or what a probe printed. Out: Resources, the same attributes as observed, the words of
their steps, and what stands in the way. Ours is what its user property says, never what a name says; nothing here
destroys a dataset.
Sources: zfsprops(7), zfs-create(8), zfs-list(8). Must not know what a jail keeps in its home.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from reconciler.model import HostSpec, Jail, Manifest, Resource
from reconciler.platforms.layers import jail_home

MARK = "reconciler:owner"
HOST = "host"
"""Whose the datasets above the jails' are: no jail is called so. Those below inherit it, and are not ours by that."""
COLUMNS = ("name", "mounted", "mountpoint", "canmount", "quota", "reservation", "atime", "setuid", "exec", MARK)
PARENT = {"canmount": "off"}
"""Never mounted: what lies in the storage directory stays in sight."""
HOME = {"canmount": "on", "atime": "off", "setuid": "off", "exec": "on"}
"""Set on each, so that it does not matter what a pool hands down. Devices there are none outside of devfs(5)."""
SIZES = ("quota", "reservation")
UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
Seen = Mapping[str, Mapping[str, str]]
"""Dataset → column → value."""


# ── what must be there ───────────────────────────────────────────────────────────────────────────────────────


def name(spec: HostSpec, jail: str) -> str:
    return f"{spec.zfs}/jails/{jail}" if spec.zfs else ""


def of_host(spec: HostSpec) -> Iterator[Resource]:
    places = {spec.zfs: spec.storage, f"{spec.zfs}/jails": f"{spec.storage}/jails"} if spec.zfs else {}
    for dataset, place in places.items():
        state = {MARK: HOST, "mountpoint": place, **PARENT}
        yield Resource(f"dataset/1 {dataset}", "", state, words=f"dataset {dataset}")


def of_jail(jail: Jail, spec: HostSpec) -> Iterator[Resource]:
    if spec.zfs:
        home = jail_home(spec.storage, jail.id)
        sizes = {"quota": spoken(jail.limits.disk), "reservation": spoken(jail.limits.reserved)}
        state = {"mounted": "yes", MARK: jail.id, "mountpoint": home, **HOME, **sizes}
        yield Resource(f"dataset/1 {name(spec, jail.id)}", jail.id, state, words=f"dataset of {jail.id}", undo=home)


def spoken(size: int) -> str:
    """In the words of the documents; what is no whole number of Mi was not written by us."""
    whole = ((size // bytes, unit) for unit, bytes in sorted(UNITS.items()) if size % bytes == 0)
    return next((f"{count}{unit}" for count, unit in whole), str(size)) if size else "none"


# ── the words of its steps ───────────────────────────────────────────────────────────────────────────────────


def properties(resource: Resource, was: Mapping[str, str]) -> list[str]:
    """Those of `was`, one after the other: a reservation shrinks before its quota does, and grows after it."""
    wanted = [key for key in resource.state if key in was and key != "mounted"]
    grows = amount(resource.state.get("reservation", "")) > amount(was.get("reservation", ""))
    wanted.sort(key=lambda key: (key == "reservation") == grows)
    return [f"{key}={written(key, resource.state[key])}" for key in wanted]


def written(key: str, value: str) -> str:
    """zfs(8) takes the units without their i."""
    return value.removesuffix("i") if key in SIZES else value


def amount(size: str) -> int:
    return int(size[:-2]) * UNITS[size[-2:]] if size[-2:] in UNITS else int(size) if size.isdigit() else 0


# ── what is there ────────────────────────────────────────────────────────────────────────────────────────────


def seen(lines: Iterable[list[str]]) -> Seen:
    return {fields[0]: dict(zip(COLUMNS, fields, strict=True)) for fields in lines if len(fields) == len(COLUMNS)}


def observed(resource: Resource, there: Seen) -> Iterator[tuple[str, str]]:
    found = there.get(resource.name, {})
    for attribute in resource.state if found else ():
        value = found[attribute]
        yield attribute, spoken(int(value)) if attribute in SIZES and value.isdigit() else value


def mounted_at(home: str, there: Seen) -> str:
    return next((n for n, one in there.items() if one["mounted"] == "yes" and one["mountpoint"] == home), "")


def of(manifest: Manifest) -> list[Resource]:
    return [resource for resource in manifest.resources if resource.type == "dataset/1"]


def pool(manifest: Manifest) -> str:
    return next((resource.name.partition("/")[0] for resource in of(manifest)), "")


def refusals(manifest: Manifest, there: Seen, complaint: str) -> Iterator[str]:
    wanted = pool(manifest)
    if wanted and wanted not in there:
        yield (
            f"there is no pool {wanted} to be had: {complaint or 'zfs(8) says nothing'}. Load the module "
            f"(zfs_enable in rc.conf, `service zfs start`) and import the pool (`zpool import {wanted}`)"
        )


def obstacles(manifest: Manifest, there: Seen, paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Key → what only the administrator may move. `paths`: what was found of jails' files."""
    for resource in of(manifest) if pool(manifest) in there else ():
        found, home = there.get(resource.name, {}), resource.undo
        if found and found[MARK] != resource.state[MARK]:
            yield resource.key, not_ours(resource, found[MARK])
        elif home and mounted_at(home, there) != resource.name and any(p.startswith(f"{home}/") for p in paths):
            yield resource.key, covered(resource)


def not_ours(resource: Resource, mark: str) -> str:
    ours = f"{MARK}={resource.state[MARK]}"
    return (
        f"there is a dataset {resource.name} already, and its {MARK} is {mark}: somebody else made it. "
        f"Rename it, or `zfs set {ours} {resource.name}` if it is ours"
    )


def covered(resource: Resource) -> str:
    return (
        f"files lie in {resource.undo}, where dataset {resource.name} would hide them. Stop the jail, rename the "
        "directory, and copy what is in it into the dataset when that is there"
    )
