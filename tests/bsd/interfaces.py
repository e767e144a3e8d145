"""ifconfig: interfaces, their addresses, bridges with their members, epairs, VLANs, and moves between vnets.

In: words as of ifconfig(8) on 13.2 (`-j` from 13.3). Out: what it prints; the interfaces in the state. The texts of
errors are those of the recordings where there is one. Duplicate address detection takes no time here: no address is
ever `tentative`.
"""

from . import state as states
from .bridge import BRIDGE, bridge_lines
from .commands import getopt
from .state import Failure, changing, find_jail, here, interface_named, load, names, packed, vnet_of

USAGE = """usage: ifconfig [-f type:format] [-g groupname] [-C] [-L] interface address_family
                [address [dest_address]] [parameters]
       ifconfig interface create
       ifconfig -a [-g groupname] [-C] [-L] [-d] [-m] [-u] [-v] [address_family]
       ifconfig -l [-d] [-u] [address_family]
       ifconfig [-g groupname] [-C] [-L] [-d] [-m] [-u] [-v]"""
FLAGS = {
    "UP": 0x1,
    "BROADCAST": 0x2,
    "LOOPBACK": 0x8,
    "RUNNING": 0x40,
    "PROMISC": 0x100,
    "SIMPLEX": 0x800,
    "MULTICAST": 0x8000,
}
KNOWS_EPOCH = 0x20
"""A flag that ifconfig counts and has no name for (net/if.h)."""
ND6 = {
    "PERFORMNUD": 0x1,
    "ACCEPT_RTADV": 0x2,
    "PREFER_SOURCE": 0x4,
    "IFDISABLED": 0x8,
    "AUTO_LINKLOCAL": 0x20,
    "NO_RADR": 0x40,
    "NO_PREFER_IFACE": 0x80,
    "NO_DAD": 0x100,
}
ND6_WORDS = {
    "nud": "PERFORMNUD",
    "accept_rtadv": "ACCEPT_RTADV",
    "prefer_source": "PREFER_SOURCE",
    "ifdisabled": "IFDISABLED",
    "auto_linklocal": "AUTO_LINKLOCAL",
    "no_radr": "NO_RADR",
    "no_prefer_iface": "NO_PREFER_IFACE",
    "no_dad": "NO_DAD",
}
LONGEST = 15


# ── output ───────────────────────────────────────────────────────────────────────────────────────────────────


def flags_of(state, interface):
    words = {"MULTICAST"}
    words |= {"LOOPBACK"} if interface["kind"] == "loop" else {"BROADCAST", "SIMPLEX"}
    up = interface["up"]
    if interface["kind"] == "epair" or interface.get("running") or up:
        words.add("RUNNING")
    if up:
        words.add("UP")
    if any(interface["name"] == m["name"] for b in state["interfaces"] for m in b.get("members", ())):
        words.add("PROMISC")
    return words


def bits(table, words, nameless=0):
    shown = [word for word in table if word in words]
    return f"{sum(table[word] for word in shown) + nameless:x}<{','.join(shown)}>"


def netmask(length):
    return f"0x{(0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF:08x}"


def address_line(interface, entry):
    text, length = entry["address"], entry["length"]
    if entry["family"] == "inet":
        line = f"\tinet {text} netmask {netmask(length)}"
        if interface["kind"] == "loop":
            return line
        raw = int.from_bytes(packed("inet", text), "big") | (0xFFFFFFFF >> length)
        return f"{line} broadcast {states.shown('inet', raw.to_bytes(4, 'big'))}"
    if text.startswith("fe80:"):
        return f"\tinet6 {text}%{interface['name']} prefixlen {length} scopeid 0x{interface['index']:x}"
    return f"\tinet6 {text} prefixlen {length}"


def lines(state, interface):
    flags = bits(FLAGS, flags_of(state, interface), KNOWS_EPOCH * (interface["kind"] in ("ether", "epair")))
    yield f"{interface['name']}: flags={flags} metric {interface['metric']} mtu {interface['mtu']}"
    if interface["description"]:
        yield f"\tdescription: {interface['description']}"
    if interface["options"]:
        yield f"\toptions={interface['options']}"
    if interface["ether"]:
        yield f"\tether {interface['ether']}"
    for entry in interface["addresses"]:
        yield address_line(interface, entry)
    if "members" in interface:
        yield from bridge_lines(state, interface)
    if interface["groups"]:
        yield "\tgroups: " + " ".join(interface["groups"])
    if "vlan" in interface:
        tag, parent = interface["vlan"]
        yield f"\tvlan: {tag} vlanproto: 802.1q vlanpcp: 0 parent interface: {parent or '<none>'}"
    if interface["media"]:
        yield f"\tmedia: {interface['media']}"
        yield f"\tstatus: {interface['status']}"
    yield f"\tnd6 options={bits(ND6, interface['nd6'])}"


def listed(state, found):
    for interface in found:
        print("\n".join(lines(state, interface)))


def in_group(state, vnet, group):
    """The kernel's list of a group, in the order in which interfaces joined it."""
    names = [name for g, name in state["groups"] if g == group]
    return sorted(
        (i for i in states.visible(state, vnet) if group in i["groups"]),
        key=lambda i: names.index(i["name"]) if i["name"] in names else -1,
    )


# ── making and taking away ───────────────────────────────────────────────────────────────────────────────────


def made_up_ether(state, name, last=None):
    """A MAC of the kernel's: different for each interface, the same in each run."""
    number = state["units"]["made"] = state["units"].get("made", 0) + 1
    if last is None:
        return f"58:9c:fc:10:{number >> 8 & 255:02x}:{number & 255:02x}"
    return f"02:{number >> 16 & 255:02x}:fc:{number >> 8 & 255:02x}:{number & 255:02x}:{last}"


def appear(state, vnet, name, kind, ether, **more):
    new = states.interface(name, kind, vnet, states.free_index(state, vnet), ether)
    new |= {"groups": [kind], "options": "", **more}
    state["interfaces"].append(new)
    return new


def create_bridge(state, vnet, name):
    require(state, "if_bridge", "bridgestp")
    nd6 = ["PERFORMNUD", "IFDISABLED"]
    return appear(state, vnet, name, "bridge", made_up_ether(state, name), nd6=nd6, members=[], static=[], rstp=False)


def create_epair(state, vnet, name):
    require(state, "if_epair")
    first = made_up_ether(state, name, "0a")
    link = {"media": "Ethernet 10Gbase-T (10Gbase-T <full-duplex>)", "status": "active", "options": "8<VLAN_MTU>"}
    a = appear(state, vnet, name + "a", "epair", first, clone=name, **link)
    appear(state, vnet, name + "b", "epair", first[:-1] + "b", clone=name, **link)
    return a


def create_vlan(state, vnet, name):
    require(state, "if_vlan")
    return appear(state, vnet, name, "vlan", "00:00:00:00:00:00", vlan=[0, ""])


def create_loop(state, vnet, name):
    new = states.loopback(vnet, states.free_index(state, vnet), up=False) | {"name": name, "clone": name}
    state["interfaces"].append(new)
    return new


CLONERS = {"bridge": create_bridge, "epair": create_epair, "vlan": create_vlan, "lo": create_loop}


def require(state, *modules):
    """ifconfig loads the module of the interface that it is asked for."""
    state["modules"] += [module for module in modules if module not in state["modules"]]


def create(state, vnet, name):
    kind = name.rstrip("0123456789")
    if kind not in CLONERS:
        raise Failure(f"ifconfig: SIOCIFCREATE2 ({name}): Invalid argument")
    taken = {i["clone"] for i in state["interfaces"] if i["vnet"] == vnet or i["kind"] == "epair"}
    taken |= {i["name"] for i in states.visible(state, vnet)}
    if name == kind:
        name = next(f"{kind}{number}" for number in range(1000) if f"{kind}{number}" not in taken)
    elif name in taken:
        raise Failure(f"ifconfig: interface {name} already exists")
    before = len(state["interfaces"])
    new = CLONERS[kind](state, vnet, name)
    # The list of a group of epairs has the a side last.
    for made in sorted(state["interfaces"][before:], key=lambda i: i["name"], reverse=True):
        state["groups"] += [[group, made["name"]] for group in made["groups"]]
    return new


def destroy(state, interface):
    if interface["kind"] not in ("bridge", "epair", "vlan", "loop") or interface["name"] == "lo0":
        raise Failure("ifconfig: SIOCIFDESTROY: Invalid argument")
    gone = [interface]
    if interface["kind"] == "epair":
        gone = [i for i in state["interfaces"] if i["kind"] == "epair" and i["clone"] == interface["clone"]]
    for one in gone:
        state["interfaces"].remove(one)
        leave(state, one)


def leave(state, interface):
    name = interface["name"]
    for bridge in (i for i in state["interfaces"] if "members" in i and i["vnet"] == interface["vnet"]):
        bridge["members"] = [member for member in bridge["members"] if member["name"] != name]
    state["groups"] = [pair for pair in state["groups"] if pair[1] != name]
    state["routes"] = [r for r in state["routes"] if (r["vnet"], r["interface"]) != (interface["vnet"], name)]


def rename(state, interface, name):
    if len(name) > LONGEST:
        raise Failure("ifconfig: ioctl SIOCSIFNAME (set name): File name too long")
    if interface_named(state, interface["vnet"], name):
        raise Failure("ifconfig: ioctl SIOCSIFNAME (set name): File exists")
    old = interface["name"]
    state["groups"] = [[group, name if one == old else one] for group, one in state["groups"]]
    for other in states.visible(state, interface["vnet"]):
        for member in other.get("members", ()):
            member["name"] = name if member["name"] == old else member["name"]
        if other.get("vlan", [0, ""])[1] == old:
            other["vlan"][1] = name
    for route in state["routes"]:
        if (route["vnet"], route["interface"]) == (interface["vnet"], old):
            route["interface"] = name
    interface["name"] = name


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────


class Address:
    """What the words of one call say about an address: it is set when all of them are read."""

    def __init__(self):
        self.family = "inet"
        self.text = None
        self.length = None
        self.alias = False
        self.delete = False

    def read(self, word):
        text, _, length = word.partition("/")
        bits = 128 if self.family == "inet6" else 32
        if self.text is not None or packed(self.family, text) is None:
            raise Failure(f"ifconfig: {text}: bad value")
        if length and not (length.isdigit() and int(length) <= bits):
            raise Failure(f"ifconfig: {word}: bad value")
        self.text = states.shown(self.family, packed(self.family, text))
        self.length = int(length) if length else None

    def settle(self, state, interface):
        if self.text is None:
            return
        same = [e for e in interface["addresses"] if (e["family"], e["address"]) == (self.family, self.text)]
        if self.delete:
            if not same:
                raise Failure("ifconfig: ioctl (SIOCDIFADDR): Can't assign requested address")
            forget(state, interface, same[0])
            return
        if self.family == "inet" and not self.alias:
            same = [e for e in interface["addresses"] if e["family"] == "inet"][:1] or same
        if self.family == "inet" and [e["address"] for e in same] == [self.text]:
            same[0]["length"] = 8 if self.length is None else self.length
            return
        for old in same if self.family == "inet" or not same else ():
            interface["addresses"].remove(old)
        self.add(state, interface, same)

    def add(self, state, interface, same):
        default = 64 if self.family == "inet6" else 8
        length = default if self.length is None else self.length
        if self.family == "inet6" and same:
            same[0]["length"] = length
            return
        if self.family == "inet6":
            if "IFDISABLED" in interface["nd6"]:
                interface["nd6"].remove("IFDISABLED")
            interface["up"] = True
            attach_link_local(interface)
        interface["addresses"].append({"family": self.family, "address": self.text, "length": length})
        start(interface)


def forget(state, interface, entry):
    """A route whose gateway was reached through the address goes when its interface has no other of that network."""
    interface["addresses"].remove(entry)
    net = states.network(entry["family"], entry["address"], entry["length"])
    if any(states.network(e["family"], e["address"], e["length"]) == net for e in interface["addresses"]):
        return
    kept = []
    for route in state["routes"]:
        mine = (route["vnet"], route["interface"], route["family"]) == (
            interface["vnet"],
            interface["name"],
            entry["family"],
        )
        if (
            not mine
            or not packed(route["family"], route["gateway"])
            or (states.network(route["family"], route["gateway"], entry["length"]) != net)
        ):
            kept.append(route)
    state["routes"] = kept


def start(interface):
    interface["up"] = True
    if "rstp" in interface:
        interface["rstp"] = True
    attach_link_local(interface)


def attach_link_local(interface):
    nd6 = interface["nd6"]
    has = any(e["address"].startswith("fe80:") for e in interface["addresses"])
    if interface["up"] and interface["ether"] and not has and "AUTO_LINKLOCAL" in nd6 and "IFDISABLED" not in nd6:
        text = states.link_local(interface["ether"])
        interface["addresses"].append({"family": "inet6", "address": text, "length": 64})


# ── parameters ───────────────────────────────────────────────────────────────────────────────────────────────


def set_up(state, interface, up):
    interface["up"] = up
    if up:
        start(interface)


def set_ether(state, interface, ether):
    parts = ether.split(":")
    if len(parts) != 6 or not all(0 < len(p) <= 2 and set(p) <= set("0123456789abcdefABCDEF") for p in parts):
        raise Failure("ifconfig: malformed link-level address")
    if int(parts[0], 16) & 1:
        raise Failure("ifconfig: ioctl (set lladdr): Invalid argument")
    interface["ether"] = ":".join(f"{int(p, 16):02x}" for p in parts)


def set_mtu(state, interface, text):
    if not text.isdigit():
        raise Failure(f"ifconfig: {text}: bad value")
    if not 72 <= int(text) <= 9216 or any(
        interface["name"] == m["name"] for i in state["interfaces"] for m in i.get("members", ())
    ):
        raise Failure("ifconfig: ioctl SIOCSIFMTU (set mtu): Invalid argument")
    for member in interface.get("members", ()):
        interface_named(state, interface["vnet"], member["name"])["mtu"] = int(text)
    interface["mtu"] = int(text)


def set_description(state, interface, text):
    interface["description"] = text


def join(state, interface, group):
    if not group or group[-1].isdigit():
        raise Failure("ifconfig: setifgroup: group names may not end in a digit")
    if len(group) > LONGEST:
        raise Failure("ifconfig: setifgroup: group name too long")
    if group in interface["groups"]:
        raise Failure("ifconfig:  SIOCAIFGROUP: File exists")
    interface["groups"].append(group)
    state["groups"].append([group, interface["name"]])


def part(state, interface, group):
    if group not in interface["groups"]:
        raise Failure("ifconfig:  SIOCDIFGROUP: No such file or directory")
    interface["groups"].remove(group)
    state["groups"] = [pair for pair in state["groups"] if pair != [group, interface["name"]]]


def to_vnet(state, interface, name):
    jail = find_jail(state, name)
    if jail is None:
        raise Failure(f'ifconfig: jail "{name}" not found')
    states.move(state, interface, jail["jid"])


def set_vlan(state, interface, tag):
    interface.setdefault("vlan", [0, ""])[0] = int(tag)


def set_vlandev(state, interface, parent):
    above = interface_named(state, interface["vnet"], parent)
    if above is None:
        raise Failure("ifconfig: SIOCSETVLAN: Device not configured")
    interface["vlan"][1] = parent
    interface |= {"ether": above["ether"], "mtu": above["mtu"], "media": above["media"], "status": above["status"]}


PARAMETERS = {
    "up": (0, lambda state, interface: set_up(state, interface, True)),
    "down": (0, lambda state, interface: set_up(state, interface, False)),
    "ether": (1, set_ether),
    "lladdr": (1, set_ether),
    "link": (1, set_ether),
    "mtu": (1, set_mtu),
    "description": (1, set_description),
    "descr": (1, set_description),
    "-description": (0, lambda state, interface: set_description(state, interface, "")),
    "-descr": (0, lambda state, interface: set_description(state, interface, "")),
    "group": (1, join),
    "-group": (1, part),
    "name": (1, rename),
    "vnet": (1, to_vnet),
    "destroy": (0, destroy),
    "vlan": (1, set_vlan),
    "vlandev": (1, set_vlandev),
    **BRIDGE,
}
IGNORED = set(
    names("""-txcsum txcsum -rxcsum rxcsum -tso tso -lro lro -txcsum6 -rxcsum6 promisc
    -promisc arp -arp""")
)
INET6_FLAGS = set(names("""no_dad anycast tentative autoconf deprecated -anycast -deprecated prefer_source"""))


def set_nd6(interface, word):
    name = ND6_WORDS[word.removeprefix("-")]
    if word.startswith("-"):
        interface["nd6"] = [one for one in interface["nd6"] if one != name]
    elif name not in interface["nd6"]:
        interface["nd6"].append(name)
    attach_link_local(interface)


def configure(state, interface, words):
    """One call's words, left to right; addresses last, so that a word that is wrong leaves them as they were."""
    address = Address()
    words = list(words)
    if words and words[0] in ("inet", "inet6"):
        address.family = words.pop(0)
    while words:
        word = words.pop(0)
        if word in PARAMETERS and not (address.family == "inet6" and word in INET6_FLAGS):
            count, function = PARAMETERS[word]
            if len(words) < count:
                raise Failure(f"ifconfig: '{word}' requires argument")
            function(state, interface, *[words.pop(0) for _ in range(count)])
        elif word == "inet6" and address.text is None:
            address.family = "inet6"
        else:
            say(address, interface, word, words)
    address.settle(state, interface)


def say(address, interface, word, words):
    if word in ("alias", "add"):
        address.alias = True
    elif word in ("-alias", "delete", "remove"):
        address.delete = True
    elif address.family == "inet6" and word in ("prefixlen",):
        address.length = int(words.pop(0))
    elif address.family == "inet" and word == "netmask":
        mask = words.pop(0)
        raw = int(mask, 16) if mask.startswith("0x") else int.from_bytes(packed("inet", mask), "big")
        address.length = bin(raw).count("1")
    elif address.family == "inet" and word == "broadcast":
        words.pop(0)
    elif address.family == "inet6" and word in INET6_FLAGS and address.text is not None:
        pass
    elif address.family == "inet6" and word.removeprefix("-") in ND6_WORDS:
        set_nd6(interface, word)
    elif word not in IGNORED:
        address.read(word)


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def back_from_vnet(state, vnet, name, jail_name):
    jail = find_jail(state, jail_name, dying=True)
    if jail is None or (jail["dying"] and str(jail["jid"]) != jail_name):
        raise Failure(f'ifconfig: jail "{jail_name}" not found')
    inside = interface_named(state, jail["jid"], name)
    if inside is None:
        raise Failure(f"ifconfig: SIOCSIFRVNET ({name}): Device not configured")
    states.move(state, inside, vnet)


def change(vnet, name, words):
    """Prints the interface's name when it is not the one that was asked for, also when a later word failed."""
    now = name
    try:
        with changing() as state:
            if words[0] == "-vnet":
                return back_from_vnet(state, vnet, name, words[1])
            if words[0] in ("create", "plumb"):
                interface, words = create(state, vnet, name), words[1:]
            else:
                interface = must_find(state, vnet, name)
            now = interface["name"]
            try:
                configure(state, interface, words)
                now = interface["name"]
            except Failure as failure:
                failure.keep = True
                raise
    finally:
        if now != name:
            print(now)
    return 0


def must_find(state, vnet, name):
    found = interface_named(state, vnet, name)
    if found is None:
        raise Failure(f"ifconfig: interface {name} does not exist")
    return found


def show(state, vnet, options, words):
    if "g" in options and not words and "a" not in options:
        for interface in in_group(state, vnet, options["g"]):
            print(interface["name"])
        return 0
    found = states.visible(state, vnet)
    if "u" in options:
        found = [i for i in found if i["up"]]
    if "d" in options:
        found = [i for i in found if not i["up"]]
    if "g" in options:
        found = [i for i in found if options["g"] in i["groups"]]
    if "l" in options:
        print(" ".join(i["name"] for i in found))
        return 0
    listed(state, found)
    return 0


def ifconfig(words):
    letters = "adf:g:klmnuvCL" + ("j:" if states.newer(load(), (13, 3)) else "")
    options, words = getopt(words, letters, USAGE, "ifconfig")
    state = load()
    jid = here()
    if "j" in options:
        jail = find_jail(state, options["j"])
        if jail is None:
            raise Failure(f'ifconfig: jail "{options["j"]}" not found')
        jid = jail["jid"]
    vnet = vnet_of(state, jid)
    if not words or "a" in options or "l" in options:
        return show(state, vnet, options, words)
    name, words = words[0], words[1:]
    if not words or words in (["inet"], ["inet6"], ["link"], ["ether"]):
        listed(state, [must_find(state, vnet, name)])
        return 0
    return change(vnet, name, words)


COMMANDS = {"ifconfig": ifconfig}
