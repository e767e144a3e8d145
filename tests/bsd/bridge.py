"""The bridge's part of ifconfig: members and their flags, static addresses, and how a bridge is printed.

In: the state, a bridge, words. Out: the bridge's members in the state. if_bridge(4), ifconfig(8).
"""

from . import state as states
from .state import Failure

FLAGS = {
    "LEARNING": 0x1,
    "DISCOVER": 0x2,
    "STP": 0x4,
    "SPAN": 0x8,
    "STICKY": 0x10,
    "PRIVATE": 0x800,
    "EDGE": 0x20,
    "AUTOEDGE": 0x40,
    "PTP": 0x80,
    "AUTOPTP": 0x100,
}
"""In the order of printing, which is not that of the bits."""
WORDS = {
    "learn": "LEARNING",
    "discover": "DISCOVER",
    "stp": "STP",
    "sticky": "STICKY",
    "private": "PRIVATE",
    "edge": "EDGE",
    "autoedge": "AUTOEDGE",
    "ptp": "PTP",
    "autoptp": "AUTOPTP",
}


def bridge_lines(state, bridge):
    root = 32768 if bridge["rstp"] else 0
    yield "\tid 00:00:00:00:00:00 priority 32768 hellotime 2 fwddelay 15"
    most, timeout = bridge.get("maxaddr", 2000), bridge.get("timeout", 1200)
    yield f"\tmaxage 20 holdcnt 6 proto rstp maxaddr {most} timeout {timeout}"
    yield f"\troot id 00:00:00:00:00:00 priority {root} ifcost 0 port 0"
    for member in bridge["members"]:
        shown = [word for word in FLAGS if word in member["flags"]]
        port = states.interface_named(state, bridge["vnet"], member["name"])["index"]
        yield f"\tmember: {member['name']} flags={sum(FLAGS[w] for w in shown):x}<{','.join(shown)}>"
        yield f"\t        ifmaxaddr {member.get('ifmaxaddr', 0)} port {port} priority 128 path cost 2000"


def addm(state, bridge, name):
    """The newest member is the first of the list; the first ever gives the bridge its MTU (if_bridge.c, bridge_add)."""
    new = states.interface_named(state, bridge["vnet"], name)
    holders = [b for b in state["interfaces"] if any(m["name"] == name for m in b.get("members", ()))]
    holders = [b for b in holders if b["vnet"] == bridge["vnet"]]
    if new is None:
        raise Failure(f"ifconfig: BRDGADD {name}: No such file or directory")
    if bridge in holders:
        raise Failure(f"ifconfig: BRDGADD {name}: File exists")
    if holders:
        raise Failure(f"ifconfig: BRDGADD {name}: Device busy")
    if new["kind"] == "loop" or "members" in new:
        raise Failure(f"ifconfig: BRDGADD {name}: Invalid argument")
    if states.newer(state, (15, 0)) and new["addresses"]:
        raise Failure(f"ifconfig: BRDGADD {name}: Invalid argument")
    if not bridge["members"]:
        bridge["mtu"] = new["mtu"]
    new["mtu"] = bridge["mtu"]
    bridge["members"].insert(0, {"name": name, "flags": ["LEARNING", "DISCOVER", "AUTOEDGE", "AUTOPTP"]})


def deletem(state, bridge, name):
    bridge["members"].remove(member(bridge, name, "BRDGDEL"))
    bridge["static"] = [entry for entry in bridge["static"] if entry[0] != name]


def member(bridge, name, request):
    for one in bridge.get("members", ()):
        if one["name"] == name:
            return one
    raise Failure(f"ifconfig: {request} {name}: No such file or directory")


def flag(word, on):
    def apply(state, bridge, name):
        flags = member(bridge, name, "BRDGGIFFLGS")["flags"]
        if word in flags:
            flags.remove(word)
        if on:
            flags.append(word)

    return apply


def static(state, bridge, name, ether):
    member(bridge, name, "BRDGSADDR")
    bridge["static"] = [entry for entry in bridge["static"] if entry[1] != ether] + [[name, ether]]


def deladdr(state, bridge, ether):
    if not any(entry[1] == ether for entry in bridge["static"]):
        raise Failure("ifconfig: BRDGDADDR " + ether + ": No such file or directory")
    bridge["static"] = [entry for entry in bridge["static"] if entry[1] != ether]


def addresses(state, bridge):
    for name, ether in bridge["static"]:
        print(f"{ether} Vlan1 {name} 0 flags=1<STATIC>")


def setting(key):
    def apply(state, bridge, value):
        bridge[key] = int(value)

    return apply


def ifmaxaddr(state, bridge, name, value):
    member(bridge, name, "BRDGSIFAMAX")["ifmaxaddr"] = int(value)


def flush(state, bridge):
    """Learned addresses are not modelled; flushall takes the static ones too."""


BRIDGE = {
    "addm": (1, addm),
    "deletem": (1, deletem),
    "static": (2, static),
    "deladdr": (1, deladdr),
    "addr": (0, addresses),
    "maxaddr": (1, setting("maxaddr")),
    "timeout": (1, setting("timeout")),
    "ifmaxaddr": (2, ifmaxaddr),
    "flush": (0, flush),
    "flushall": (0, lambda state, bridge: bridge["static"].clear()),
    **{word: (1, flag(name, True)) for word, name in WORDS.items()},
    **{"-" + word: (1, flag(name, False)) for word, name in WORDS.items()},
}
