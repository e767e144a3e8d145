"""mount, mount_nullfs, umount and df: the mounts of the state; nothing is really mounted.

In: words. Out: what they print; mounts in the state, oldest first. A jail sees the mount of its root only, as with
enforce_statfs=2.
"""

import os

from .commands import getopt
from .state import Failure, changing, here, jail_of, load, resolve

SHOWN = {"ro": "read-only", "noatime": "noatime", "noexec": "noexec", "nosuid": "nosuid"}


def on(state, place):
    """The newest mount at a place."""
    return next((m for m in reversed(state["mounts"]) if m["on"] == place), None)


def below(state, path):
    """The mount that a path is on."""
    holders = [m for m in state["mounts"] if (path + "/").startswith(m["on"].rstrip("/") + "/")]
    return max(holders, key=lambda m: len(m["on"]), default=None)


def mount(state, kind, source, target, options):
    """Raises what mount(8) says; the files of a nullfs mount are found by state.resolve."""
    target = target.rstrip("/") or "/"
    if kind == "nullfs":
        source = source.rstrip("/") or "/"
        nullfs(state, source, target)
        inherited = below(state, source) or {"options": []}
        flags = ["local"] + [o for o in inherited["options"] if o in ("noatime", "nfsv4acls", "soft-updates")]
        flags = [f for f in flags if f != "soft-updates"]
    else:
        if not os.path.isdir(resolve(state, target)):
            raise Failure(f"mount: {target}: No such file or directory")
        source, flags = kind if kind in ("devfs", "tmpfs") else source, ["local"] if kind == "tmpfs" else []
    extra = {o for o in options if o in SHOWN} | ({"ro"} if "rdonly" in options else set())
    entry = {"from": source, "on": target, "type": kind, "options": flags + sorted(extra - set(flags))}
    state["mounts"].append(entry | ({"given": options} if options else {}))


def nullfs(state, source, target):
    for path in (source, target):
        if not os.path.isdir(resolve(state, path)):
            raise Failure(f"mount_nullfs: {path}: No such file or directory", 64)
    same = on(state, target)
    if same and same["type"] == "nullfs" and same["from"] == source:
        raise Failure(f"mount_nullfs: {target}: Resource deadlock avoided")
    if (source + "/").startswith(target + "/") or (target + "/").startswith(source + "/"):
        raise Failure(f"mount_nullfs: {target} and {source} are not distinct paths", 64)


def unmount(state, place, force):
    place = place.rstrip("/") or "/"
    found = on(state, place) or next((m for m in reversed(state["mounts"]) if m["from"] == place), None)
    if found is None:
        if not os.path.exists(resolve(state, place)):
            raise Failure(f"umount: {place}: statfs: No such file or directory\numount: {place}: unknown file system")
        raise Failure(f"umount: {place}: not a file system root directory")
    if not force and busy(state, found):
        raise Failure(f"umount: unmount of {found['on']} failed: Device busy")
    state["mounts"].remove(found)


def busy(state, mount):
    """Something is mounted below, a running jail's root is on it, or a test says so."""
    place = mount["on"].rstrip("/") + "/"
    if any(m["on"].startswith(place) for m in state["mounts"] if m is not mount):
        return True
    at = state["mounts"].index(mount)
    if any(m["on"] == mount["on"] for m in state["mounts"][at + 1 :]):
        return False
    return mount["on"] in state.get("busy", ()) or any(jail["path"] == mount["on"] for jail in state["jails"])


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────


def visible(state):
    jail = jail_of(state, here())
    if jail is None:
        return state["mounts"]
    root = below(state, jail["path"])
    return [root | {"on": "/"}] if root else []


def order(options):
    """As mount(8) prints flags: local, noatime, read-only, soft-updates, nfsv4acls."""
    rank = ["local", "noatime", "noexec", "nosuid", "ro", "soft-updates", "nfsv4acls"]
    return sorted(options, key=rank.index)


def line(mount):
    words = [mount["type"]] + [SHOWN.get(o, o) for o in order(mount["options"])]
    return f"{mount['from']} on {mount['on']} ({', '.join(words)})"


def tabs(text, stop):
    return text + "\t" * (-(-(stop - len(text)) // 8) if len(text) < stop else 1)


def fstab_line(mount):
    flags = [o for o in order(mount["options"]) if o in ("noatime", "nfsv4acls", "noexec", "nosuid")]
    words = ["ro" if "ro" in mount["options"] else "rw", *flags]
    numbers = "1 1" if mount["type"] == "ufs" and mount["on"] == "/" else "0 0"
    shown = ",".join(words) + (" \t" if flags else "\t\t")
    return f"{tabs(mount['from'], 24)}{tabs(mount['on'], 24)}{mount['type']}\t{shown}{numbers}"


def mount_command(words):
    options, rest = getopt(
        words, "adF:fLlno:prt:uvw", "usage: mount [-adflpruvw] [-F fstab] [-o options] [-t type]", "mount"
    )
    if rest and "u" in options:
        return change(rest[-1], options)
    if len(rest) == 2:
        with changing() as state:
            given = options.get("o", "").split(",") + (["ro"] if "r" in options else [])
            mount(state, options.get("t", "ufs"), rest[0], rest[1], [o for o in given if o])
        return 0
    if rest:
        raise Failure(f"mount: {rest[0]}: unknown special file or file system")
    state = load()
    kinds = options.get("t", "").split(",") if "t" in options else None
    for one in visible(state):
        if kinds is None or one["type"] in kinds:
            print(fstab_line(one) if "p" in options else line(one))
    return 0


def change(place, options):
    with changing() as state:
        found = on(state, place)
        if found is None:
            raise Failure(f"mount: {place}: unknown special file or file system")
        kept = [o for o in found["options"] if o != "ro"]
        found["options"] = kept + ["ro"] * ("r" in options or "ro" in options.get("o", "").split(","))
    return 0


def mount_nullfs(words):
    options, rest = getopt(words, "o:", "usage: mount_nullfs [-o options] target mount-point", "mount_nullfs")
    if len(rest) != 2:
        raise Failure("usage: mount_nullfs [-o options] target mount-point", 64)
    with changing() as state:
        mount(state, "nullfs", rest[0], rest[1], options.get("o", "").split(","))
    return 0


def umount(words):
    options, rest = getopt(words, "AaF:fh:NnrRt:v", "usage: umount [-fNnv] special | node", "umount")
    with changing() as state:
        for place in rest:
            unmount(state, place, "f" in options)
    return 0


def df(words):
    print("Filesystem      1024-blocks   Used   Avail Capacity  Mounted on")
    for one in visible(load()):
        print(f"{one['from']:<15}     3044988 134748 2666644     5%    {one['on']}")
    return 0


COMMANDS = {"mount": mount_command, "mount_nullfs": mount_nullfs, "umount": umount, "df": df}
