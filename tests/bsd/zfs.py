"""zfs and zpool, on a host that has a pool: datasets with their properties, snapshots, and their mounts in the state.

In: words. Out: what they print; datasets in the state, folders for mountpoints. What a dataset holds lies in its
mountpoint while it is mounted, and below /.pool while it is not: mounting hides what was there before. Sizes are made
up: a dataset uses what a test sets, and no quota is ever reached.
"""

import os

from .commands import complain, getopt
from .state import Failure, changing, here, load

NATIVE = {
    "quota": "0",
    "reservation": "0",
    "recordsize": "131072",
    "mountpoint": "",
    "sharenfs": "off",
    "checksum": "on",
    "compression": "off",
    "atime": "on",
    "devices": "on",
    "exec": "on",
    "setuid": "on",
    "readonly": "off",
    "jailed": "off",
    "snapdir": "hidden",
    "canmount": "on",
    "xattr": "on",
    "copies": "1",
    "refquota": "0",
    "refreservation": "0",
    "sync": "standard",
    "primarycache": "all",
    "dedup": "off",
}
COMPUTED = ("name", "type", "creation", "used", "available", "referenced", "mounted", "origin", "guid")
INHERITED = (
    "atime",
    "compression",
    "readonly",
    "exec",
    "setuid",
    "devices",
    "recordsize",
    "checksum",
    "mountpoint",
    "jailed",
)
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
POOL = "/.pool"
SIZES = ("quota", "reservation", "refquota", "refreservation", "recordsize")


def datasets(state):
    return state["pool"]["datasets"]


def found(state, name, verb="open"):
    if name not in datasets(state):
        raise Failure(f"cannot {verb} '{name}': dataset does not exist")
    return datasets(state)[name]


def parent(name):
    return name.rpartition("@")[0] if "@" in name else name.rpartition("/")[0]


def mountpoint(state, name):
    one = datasets(state)[name]
    if "@" in name:
        return "-"
    if "mountpoint" in one["set"]:
        return one["set"]["mountpoint"]
    above = mountpoint(state, parent(name)) if parent(name) else "/" + name
    return above if above in ("none", "legacy") else above.rstrip("/") + "/" + name.rpartition("/")[2]


def property_of(state, name, key):
    """(value, source)"""
    one = datasets(state)[name]
    snapshot = "@" in name
    computed = {
        "name": name,
        "type": "snapshot" if snapshot else "filesystem",
        "creation": str(one["creation"]),
        "used": str(one["used"]),
        "available": "-" if snapshot else "7681396224",
        "referenced": str(one["used"]),
        "mounted": "-" if snapshot else "yes" if one["mounted"] else "no",
        "origin": one["origin"] or ("" if snapshot else "-"),
        "guid": str(abs(hash(name))),
        "createtxg": str(one["txg"]),
    }
    if key in computed:
        return computed[key] or "-", "-"
    if snapshot and ":" not in key:
        return "-", "-"
    if key == "mountpoint":
        local = "mountpoint" in one["set"]
        return mountpoint(state, name), "local" if local else source_of(state, name, key)
    return value_of(state, name, key)


def value_of(state, name, key):
    at = name
    while at:
        if key in datasets(state)[at]["set"]:
            return datasets(state)[at]["set"][key], "local" if at == name else f"inherited from {at}"
        if key not in INHERITED and ":" not in key:
            break
        at = parent(at)
    if key not in NATIVE:
        return "-", "-"
    return NATIVE[key], "default"


def source_of(state, name, key):
    at = parent(name)
    while at:
        if key in datasets(state)[at]["set"]:
            return f"inherited from {at}"
        at = parent(at)
    return "default"


# ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────


def size(name, value):
    if value == "none":
        return "0"
    unit = UNITS.get(value[-1:].lower())
    number = value[:-1] if unit else value
    if not number.isdigit():
        raise Failure(f"cannot set property for '{name}': bad numeric value '{value}'")
    return str(int(number) * (unit or 1))


def checked(name, word):
    key, _, value = word.partition("=")
    if ":" not in key and key not in NATIVE:
        raise Failure(f"cannot set property for '{name}': invalid property '{key}'")
    return key, size(name, value) if key in SIZES else value


def make(state, name, properties, origin=""):
    datasets(state)[name] = {
        "set": properties,
        "origin": origin,
        "mounted": False,
        "used": 24576,
        "creation": 1795220748,
        "txg": max((one["txg"] for one in datasets(state).values()), default=0) + 4,
    }


def mount(state, name):
    place = mountpoint(state, name)
    if "@" in name or not place.startswith("/") or property_of(state, name, "canmount")[0] != "on":
        return
    os.makedirs(place, exist_ok=True)
    datasets(state)[name]["mounted"] = True
    state["mounts"].append({"from": name, "on": place, "type": "zfs", "options": options(state, name)})
    move(place, kept("hidden" + place))
    move(kept(name), place)


FLAGS = {("atime", "off"): "noatime", ("exec", "off"): "noexec", ("setuid", "off"): "nosuid", ("readonly", "on"): "ro"}


def options(state, name):
    said = [flag for (key, value), flag in FLAGS.items() if property_of(state, name, key)[0] == value]
    return ["local", "nfsv4acls", *said]


def kept(name):
    return f"{POOL}/{name.replace('/', '+')}"


def move(source, target):
    for entry in os.listdir(source) if os.path.isdir(source) else ():
        os.makedirs(target, exist_ok=True)
        os.rename(f"{source}/{entry}", f"{target}/{entry}")


def unmount(state, name, force=False):
    place = next((m["on"] for m in state["mounts"] if m["from"] == name and m["type"] == "zfs"), None)
    if place is None:
        return
    used = any(j["path"] == place for j in state["jails"]) or any(
        m["on"].startswith(place + "/") and m["from"] != name for m in state["mounts"]
    )
    if used and not force:
        raise Failure(f"cannot unmount '{place}': pool or dataset is busy")
    state["mounts"] = [m for m in state["mounts"] if not (m["from"] == name and m["type"] == "zfs")]
    datasets(state)[name]["mounted"] = False
    move(place, kept(name))
    move(kept("hidden" + place), place)


def create(words):
    options, properties, (name, *_) = parse(words, "pu")
    with changing() as state:
        if name in datasets(state):
            if "p" in options:
                return 0
            raise Failure(f"cannot create '{name}': dataset already exists")
        missing = [p for p in parents(name) if p not in datasets(state)]
        if missing and "p" not in options:
            raise Failure(f"cannot create '{name}': parent does not exist")
        checks = dict(checked(name, word) for word in properties)
        for above in missing:
            make(state, above, {})
            mount(state, above)
        make(state, name, checks)
        if "u" not in options:
            mount(state, name)
    return 0


def parents(name):
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def parse(words, letters):
    """Options, -o key=value words, operands."""
    properties, kept = [], []
    words = list(words)
    while words:
        word = words.pop(0)
        if word == "-o":
            properties.append(words.pop(0))
        elif word.startswith("-o") and len(word) > 2:
            properties.append(word[2:])
        else:
            kept.append(word)
    options, rest = getopt(kept, letters, "usage: zfs", "zfs")
    if not rest:
        raise Failure("missing dataset argument", 2)
    return options, properties, rest


def destroy(words):
    options, rest = getopt(words, "dfnpRrv", "usage: zfs destroy", "zfs")
    with changing() as state:
        name = rest[0]
        found(state, name)
        below = [n for n in datasets(state) if n.startswith((name + "/", name + "@"))]
        if below and not set("rR") & set(options):
            raise Failure(
                f"cannot destroy '{name}': filesystem has children\nuse '-r' to destroy the following datasets:\n"
                + "\n".join(below)
            )
        clones = [n for n, d in datasets(state).items() if d["origin"] in (name, *below)]
        if clones and "R" not in options:
            raise Failure(
                f"cannot destroy '{name}': snapshot has dependent clones\nuse '-R' to destroy the following datasets:\n"
                + "\n".join(clones)
            )
        if "n" not in options:
            take_away(state, [*sorted(below, reverse=True), name], "f" in options)
    return 0


def take_away(state, names, force):
    for one in names:
        place = mountpoint(state, one)
        unmount(state, one, force)
        del datasets(state)[one]
        if place.startswith("/"):
            os.spawnv(os.P_WAIT, "/.machine/bin/rm", ["rm", "-rf", kept(one)])
        if place.startswith("/") and os.path.isdir(place) and not os.listdir(place):
            os.rmdir(place)


def snapshot(words):
    _, properties, rest = parse(words, "r")
    with changing() as state:
        for name in rest:
            if name in datasets(state):
                raise Failure(f"cannot create snapshot '{name}': dataset already exists")
            found(state, parent(name), "open")
            make(state, name, dict(checked(name, word) for word in properties))
            datasets(state)[name]["used"] = 0
            # A pretended snapshot holds no files: a clone is an empty tree.
    return 0


def clone(words):
    _, properties, (origin, name) = parse(words, "p")
    with changing() as state:
        found(state, origin)
        if name in datasets(state):
            raise Failure(f"cannot create '{name}': dataset already exists")
        make(state, name, dict(checked(name, word) for word in properties), origin)
        mount(state, name)
    return 0


def assign(words):
    with changing() as state:
        name = words[-1]
        found(state, name)
        for word in words[:-1]:
            key, value = checked(name, word)
            fits(state, name, key, value)
            datasets(state)[name]["set"][key] = value
            if datasets(state)[name]["mounted"]:
                follow(state, name, key)
    return 0


def fits(state, name, key, value):
    """zfs_setprop_error() has the words."""
    used = max(datasets(state)[name]["used"], int(property_of(state, name, "reservation")[0]))
    quota = int(property_of(state, name, "quota")[0])
    if key == "quota" and 0 < int(value) < used:
        raise Failure(f"cannot set property for '{name}': size is less than current used or reserved space")
    if key == "reservation" and 0 < quota < int(value):
        raise Failure(f"cannot set property for '{name}': size is greater than available space")


def follow(state, name, key):
    """What a property does to what is mounted: another place or none at all, or another flag."""
    if key in ("mountpoint", "canmount"):
        place = next(m["on"] for m in state["mounts"] if m["from"] == name)
        if key == "canmount" or place != mountpoint(state, name):
            unmount(state, name)
            mount(state, name)
    for one in state["mounts"]:
        if one["from"] == name:
            one["options"] = options(state, name)


def inherit(words):
    words = [w for w in words if not w.startswith("-")]
    with changing() as state:
        found(state, words[1])["set"].pop(words[0], None)
        if words[0] == "mountpoint" and datasets(state)[words[1]]["mounted"]:
            unmount(state, words[1])
            mount(state, words[1])
    return 0


def rename(words):
    old, new = [w for w in words if not w.startswith("-")]
    with changing() as state:
        found(state, old)
        all_of = datasets(state)
        for name in [n for n in all_of if n == old or n.startswith((old + "/", old + "@"))]:
            mounted = all_of[name]["mounted"]
            unmount(state, name)
            move(kept(name), kept(new + name[len(old) :]))
            all_of[new + name[len(old) :]] = all_of.pop(name)
            if mounted:
                mount(state, new + name[len(old) :])
    return 0


def mount_command(words):
    with changing() as state:
        for name in [w for w in words if not w.startswith("-")]:
            if found(state, name)["mounted"]:
                raise Failure(f"cannot mount '{name}': filesystem already mounted")
            if property_of(state, name, "canmount")[0] == "off":
                raise Failure(f"cannot mount '{name}': 'canmount' property is set to 'off'")
            mount(state, name)
    return 0


def unmount_command(words):
    options, rest = getopt(words, "afu", "usage: zfs unmount", "zfs")
    with changing() as state:
        for name in rest:
            found(state, name)
            if not datasets(state)[name]["mounted"]:
                raise Failure(f"cannot unmount '{name}': not currently mounted")
            unmount(state, name, "f" in options)
    return 0


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────


def show(words):
    """One that is not there is told, and the others are listed."""
    options, rest = getopt(words, "d:Ho:prs:S:t:", "usage: zfs list", "zfs")
    state = load()
    if here() != 0:
        raise Failure("no datasets available", 0)
    keys = options.get("o", "name,used,available,referenced,mountpoint").split(",")
    missing = [name for name in rest if name not in datasets(state)]
    for name in missing:
        complain(f"cannot open '{name}': dataset does not exist")
    if "H" not in options and missing != rest:
        print("  ".join(key.upper() for key in keys))
    for name in listed(state, options, rest) if not rest or missing != rest else ():
        print("\t".join(property_of(state, name, key)[0] for key in keys))
    return 1 if missing else 0


def listed(state, options, rest):
    names = sorted(datasets(state), key=lambda n: n.replace("@", "\1").replace("/", "\2"))
    for option in "sS":
        if option in options:
            names.sort(key=lambda n: int(property_of(state, n, options[option])[0]), reverse=option == "S")
    if rest and not {"r", "d"} & set(options):
        return [name for name in names if name in rest]
    kinds = options.get("t", "filesystem").split(",")
    names = [n for n in names if kinds == ["all"] or ("snapshot" if "@" in n else "filesystem") in kinds]
    return [n for n in names if not rest or any(below(n, top, int(options.get("d", "99"))) for top in rest)]


def below(name, top, depth):
    rest = name[len(top) :]
    return name == top or (name.startswith((top + "/", top + "@")) and rest.count("/") + rest.count("@") <= depth)


def get(words):
    options, rest = getopt(words, "d:Ho:prs:t:", "usage: zfs get", "zfs")
    columns = options.get("o", "name,property,value,source").split(",")
    state = load()
    wanted = list(COMPUTED[1:]) + list(NATIVE) if rest[0] == "all" else rest[0].split(",")
    for name in rest[1:]:
        found(state, name)
    names = rest[1:] or sorted(datasets(state))
    if "r" in options:
        names = sorted(n for n in datasets(state) if any(n == r or n.startswith((r + "/", r + "@")) for r in rest[1:]))
    for name in names:
        for key in wanted:
            value, source = property_of(state, name, key)
            cells = {"name": name, "property": key, "value": value, "source": source}
            if "s" not in options or source.split()[0] in options["s"].split(","):
                print("\t".join(cells[column] for column in columns))
    return 0


VERBS = {
    "create": create,
    "destroy": destroy,
    "snapshot": snapshot,
    "snap": snapshot,
    "clone": clone,
    "set": assign,
    "inherit": inherit,
    "rename": rename,
    "mount": mount_command,
    "unmount": unmount_command,
    "umount": unmount_command,
    "list": show,
    "get": get,
}


def zfs(words):
    if not words or words[0] not in VERBS:
        raise Failure(f"unrecognized command '{words[0] if words else ''}'", 2)
    return VERBS[words[0]](words[1:])


def zpool(words):
    """create, list and status of the one pool."""
    if words[:1] == ["list"]:
        name = load()["pool"]["name"]
        print(f"{name}\t8053063680\t120009216\t7933054464\t-\t-\t0\t1\t1.00\tONLINE\t-")
    elif words[:1] == ["status"]:
        print(f"  pool: {load()['pool']['name']}\n state: ONLINE\nerrors: No known data errors")
    return 0


COMMANDS = {"zfs": zfs, "zpool": zpool}
