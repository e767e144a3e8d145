"""Limits: sizes with units → numbers, with the platform's defaults filled in. Knows no document but their limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.kinds.documents import Staff
from reconciler.model import Document, Limits, Problem, problem

UNITS = {"Mi": 1 << 20, "Gi": 1 << 30}
ON_ZFS = ("disk", "diskReserved")
"""What only a dataset holds a jail to."""


def wanted(spec: Mapping[str, Any], staff: Staff) -> dict[str, Any]:
    """A default that the jail's host cannot keep is none; what the document itself says stays, and is a Problem."""
    host = staff.find("Host", spec["host"])
    kept = () if host and "zfs" in host.spec else ON_ZFS
    defaults = {name: value for name, value in staff.defaults.items() if name not in kept}
    return {**defaults, **spec.get("limits", {})}


def size(limits: Mapping[str, Any], name: str) -> int:
    """Bytes; 0 when there is no limit."""
    text: str = limits.get(name, "")
    return int(text[:-2]) * UNITS[text[-2:]] if text else 0


def limits_of(spec: Mapping[str, Any], staff: Staff) -> Limits:
    limits = wanted(spec, staff)
    return Limits(
        memory=size(limits, "memory"),
        processes=limits.get("processes", 0),
        cpu=limits.get("cpu", 0),
        open_files=limits.get("openFiles", 0),
        disk=size(limits, "disk"),
        reserved=size(limits, "diskReserved"),
    )


def disk_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    own = document.spec.get("limits", {})
    host = staff.find("Host", document.spec["host"])
    for name in ON_ZFS:
        if name in own and host and "zfs" not in host.spec:
            message = f"{name} does nothing on host {host.name}: its jails lie in plain directories, without quotas"
            yield problem(document.path, ("spec", "limits", name), message, elsewhere(staff))
            return
    limits = wanted(document.spec, staff) if "diskReserved" in own else {}
    if 0 < size(limits, "disk") < size(limits, "diskReserved"):
        message = f"diskReserved {limits['diskReserved']} is more than disk {limits['disk']}"
        hint = "reserve less" if "disk" in own else "that is the platform's default: reserve less, or add disk"
        yield problem(document.path, ("spec", "limits", "diskReserved"), message, hint)


def elsewhere(staff: Staff) -> str:
    hosts = sorted(name for name, host in staff.named("Host").items() if "zfs" in host.spec)
    return f"remove it, or take a host with zfs: {', '.join(hosts[:12])}" if hosts else "remove it: no host has zfs"
