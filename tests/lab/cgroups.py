"""The cgroups of one host: a folder below the caller's own, in every hierarchy.

In: a name that is unique on this machine (cgroups are not part of any namespace that enter.sh opens).
Out: folders to join, the fstab lines that show them to the host, and their removal.
Made below the caller's path, never beside it, so that the caller's limits stay in force.
Cgroup v1 and hybrid machines are tried; a pure v2 machine is wired the same way, without limits on its hosts.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Hierarchy:
    """One cgroup tree: where it is mounted, how to mount it again, and the caller's place in it."""

    mount: Path
    options: str  # empty: cgroup v2
    own: str

    @property
    def fstab(self) -> str:
        kind, options = ("cgroup", self.options) if self.options else ("cgroup2", "defaults")
        return f"{kind} {self.mount} {kind} {options},X-mount.mkdir 0 0\n"


def hierarchies() -> tuple[Hierarchy, ...]:
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        if not controllers:
            hybrid = MOUNT / "unified"
            mount, options = (hybrid if hybrid.is_dir() else MOUNT), ""
        else:
            mount = MOUNT / controllers.removeprefix("name=")
            options = f"none,{controllers}" if controllers.startswith("name=") else controllers
        if mount.is_dir():
            found.append(Hierarchy(mount, options, own))
    return tuple(found)


def fstab() -> str:
    found = hierarchies()
    pure = any(hierarchy.mount == MOUNT for hierarchy in found)
    top = "" if pure else f"tmpfs {MOUNT} tmpfs mode=755 0 0\n"
    return top + "".join(hierarchy.fstab for hierarchy in found)


def create(name: str) -> tuple[Path, ...]:
    folders = []
    for hierarchy in hierarchies():
        parent = hierarchy.mount / hierarchy.own.lstrip("/")
        folder = parent / name
        folder.mkdir(exist_ok=True)
        if "cpuset" in hierarchy.options:  # a new cpuset is empty, and nothing may join it
            for file in ("cpuset.cpus", "cpuset.mems"):
                (folder / file).write_text((parent / file).read_text())
        folders.append(folder)
    return tuple(folders)


def remove(folders: tuple[Path, ...], timeout: float = 5) -> None:
    """Removes the folders bottom-up; a process that just died may still hold one for a moment."""
    deadline = time.monotonic() + timeout
    while True:
        left = [folder for folder in folders if not _removed(folder)]
        if not left:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups are still in use: {', '.join(map(str, left))}")
        time.sleep(0.02)


def _removed(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            return False
    return not top.exists()
