"""The state of one pretended host: a JSON document that every command reads and most change, one at a time.

In: a path. Out: plain dictionaries, and the few questions that several commands ask of them. A command that runs other
commands (jail does) must not do so while it holds the state. Must not know any command. Its imports are few because
hundreds of processes read it: `json` alone would double the time that a command takes.
"""

import os
from _json import encode_basestring_ascii, make_encoder, make_scanner
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from fcntl import LOCK_EX, flock

PATH = "/usr/sbin/.state.json"
"""Where a command finds the state: the stand-ins' folder is mounted over /usr/sbin."""
JAIL = "STAND_IN_JAIL"
"""The environment variable that says inside which jail (its jid) a command runs."""


def names(text):
    """The words of a text: a long list of them is read more easily without its commas."""
    return text.split()


class Failure(Exception):
    """A command's end: what it says on stderr, and its exit status."""

    def __init__(self, message="", status=1):
        super().__init__(message)
        self.message = message
        self.status = status


# ── the document ─────────────────────────────────────────────────────────────────────────────────────────────


class _Decoder:
    """What make_scanner wants to know; json.JSONDecoder has the same names."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = None

    def __init__(self):
        self.memo = {}


def _refuse(value):
    raise TypeError(f"not JSON: {value!r}")


decode = make_scanner(_Decoder())
encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)


def load(path=PATH):
    with open(path, encoding="ascii") as file:
        return decode(file.read(), 0)[0]


def save(state, path=PATH):
    new = f"{path}.{os.getpid()}"
    with open(new, "w", encoding="ascii") as file:
        file.write("".join(encode(state, 0)))
    os.replace(new, path)


class changing:
    """`with changing() as state:` is one transaction: nobody else reads or writes, and an exception changes nothing."""

    def __init__(self, path=PATH):
        self.path = path

    def __enter__(self):
        self.lock = os.open(self.path + ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        flock(self.lock, LOCK_EX)
        self.state = load(self.path)
        return self.state

    def __exit__(self, kind, error, trace):
        if kind is None or getattr(error, "keep", False):
            save(self.state, self.path)
        os.close(self.lock)


# ── questions ────────────────────────────────────────────────────────────────────────────────────────────────


def here():
    """The jid that this process is in, 0 on the host."""
    return int(os.environ.get(JAIL, "0"))


def jail_of(state, jid):
    return next((jail for jail in state["jails"] if jail["jid"] == jid), None)


def find_jail(state, name, dying=False):
    """By name, or by jid when the name is a number that no jail is called."""
    jails = [jail for jail in state["jails"] if dying or not jail["dying"]]
    named = [jail for jail in jails if jail["name"] == name]
    numbered = [jail for jail in jails if str(jail["jid"]) == name]
    return next(iter(named + numbered), None)


def vnet_of(state, jid):
    """A jail without a vnet of its own uses the host's."""
    jail = jail_of(state, jid)
    return jid if jail is not None and jail["vnet"] else 0


def visible(state, vnet):
    return [interface for interface in state["interfaces"] if interface["vnet"] == vnet]


def interface_named(state, vnet, name):
    return next((i for i in visible(state, vnet) if i["name"] == name), None)


def newer(state, release):
    """Whether the host's release is at least this one, as (13, 3)."""
    major, minor = state["release"].split("-")[0].split(".")[:2]
    return (int(major), int(minor)) >= release


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────


def packed(family, text):
    """The bytes of an address, None when the text is none."""
    try:
        return inet_pton(AF_INET6 if family == "inet6" else AF_INET, text.partition("%")[0])
    except (OSError, ValueError):
        return None


def shown(family, raw):
    return inet_ntop(AF_INET6 if family == "inet6" else AF_INET, bytes(raw))


def network(family, text, length):
    raw = int.from_bytes(packed(family, text), "big")
    bits = 128 if family == "inet6" else 32
    kept = raw >> (bits - length) << (bits - length)
    return shown(family, kept.to_bytes(bits // 8, "big"))


def link_local(ether):
    """fe80:: with the modified EUI-64 of a MAC (RFC 4291)."""
    raw = bytearray.fromhex(ether.replace(":", ""))
    raw[0] ^= 2
    return shown("inet6", b"\xfe\x80" + bytes(6) + raw[:3] + b"\xff\xfe" + raw[3:])


# ── things in the state that several commands make or take away ──────────────────────────────────────────────


def free_index(state, vnet):
    taken = {interface["index"] for interface in visible(state, vnet)}
    return next(index for index in range(1, 1000) if index not in taken)


def loopback(vnet, index, up):
    address = [
        {"family": "inet6", "address": "::1", "length": 128},
        {"family": "inet6", "address": "fe80::1", "length": 64},
        {"family": "inet", "address": "127.0.0.1", "length": 8},
    ]
    return interface("lo0", "loop", vnet, index) | {
        "up": up,
        "mtu": 16384,
        "groups": ["lo"],
        "options": "680003<RXCSUM,TXCSUM,LINKSTATE,RXCSUM_IPV6,TXCSUM_IPV6>",
        "addresses": address if up else [],
        "nd6": ["PERFORMNUD", "AUTO_LINKLOCAL"],
    }


def interface(name, kind, vnet, index, ether=None):
    """One interface as the kernel makes it; the callers add what their kind has more."""
    return {
        "name": name,
        "clone": name,
        "kind": kind,
        "vnet": vnet,
        "index": index,
        "ether": ether,
        "up": False,
        "mtu": 1500,
        "metric": 0,
        "description": "",
        "groups": [],
        "options": "",
        "addresses": [],
        "nd6": ["PERFORMNUD", "IFDISABLED", "AUTO_LINKLOCAL"],
        "media": "",
        "status": "",
    }


def move(state, moved, vnet):
    """To another vnet: everything that was configured stays behind, the name, the MAC and the description go along."""
    for bridge in state["interfaces"]:
        if "members" in bridge:
            bridge["members"] = [member for member in bridge["members"] if member["name"] != moved["name"]]
    moved |= {
        "vnet": -1,
        "up": False,
        "addresses": [],
        "groups": [group for group in moved["groups"] if vnet and group == "epair"],
        "nd6": ["PERFORMNUD", "IFDISABLED", "AUTO_LINKLOCAL"],
    }
    moved |= {"index": free_index(state, vnet), "vnet": vnet}
    state["interfaces"].remove(moved)
    state["interfaces"].append(moved)
    state["routes"] = [r for r in state["routes"] if r["interface"] != moved["name"] or r["vnet"] == vnet]


def bury(state, jail):
    """A jail is gone: its interfaces come back to the host, its own lo0 and routes go, its mounts stay."""
    for owned in [i for i in state["interfaces"] if i["vnet"] == jail["jid"]]:
        if owned["kind"] == "loop":
            state["interfaces"].remove(owned)
        else:
            move(state, owned, 0)
    state["routes"] = [route for route in state["routes"] if route["vnet"] != jail["jid"]]
    if jail in state["jails"]:
        state["jails"].remove(jail)


def resolve(state, path):
    """Where a path really is, nullfs mounts followed: the mounts exist in the state only."""
    for mount in reversed(state["mounts"]):
        if mount["type"] == "nullfs" and (path + "/").startswith(mount["on"].rstrip("/") + "/"):
            return resolve(state, mount["from"] + path[len(mount["on"]) :])
    return path
