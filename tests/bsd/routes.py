"""route, netstat -r, ndp and arp: the routes of a vnet, those of its addresses and those that were added.

In: words. Out: what they print; the static routes in the state. The routes of addresses are computed when they are
asked for, so they cannot disagree with ifconfig.
"""

from . import state as states
from .commands import complain, getopt
from .state import Failure, changing, find_jail, here, load, packed, vnet_of

PRETTY = {"U": "up", "G": "gateway", "H": "host", "S": "static", "R": "reject", "B": "blackhole"}
NAMES = {"inet": "Internet", "inet6": "Internet6"}


# ── what there is ────────────────────────────────────────────────────────────────────────────────────────────


def of_address(interface, entry):
    """The network's route and the address's own."""
    family, text, length = entry["family"], entry["address"], entry["length"]
    link = f"link#{interface['index']}"
    scope = f"%{interface['name']}" if text.startswith("fe80:") else ""
    own, bits = (text + scope, 128 if family == "inet6" else 32)
    loop = interface["kind"] == "loop"
    if length < bits and not (loop and family == "inet"):
        net = f"{states.network(family, text, length)}{scope}/{length}"
        yield entry_of(family, net, link, "U", interface["name"], interface["index"] * bool(scope))
    flags = "UH" if loop and family == "inet" else "UHS"
    yield entry_of(family, own, link, flags, "lo0", interface["index"] * bool(scope))


def entry_of(family, destination, gateway, flags, interface, scope=0):
    return {
        "family": family,
        "destination": destination,
        "gateway": gateway,
        "flags": flags,
        "interface": interface,
        "scope": scope,
    }


def table(state, vnet):
    found = [e for i in states.visible(state, vnet) if i["up"] for a in i["addresses"] for e in of_address(i, a)]
    found += [
        entry_of(*(r[k] for k in ("family", "destination", "gateway", "flags", "interface")))
        for r in state["routes"]
        if r["vnet"] == vnet
    ]
    return sorted(found, key=place)


def split(family, destination):
    """(address, prefix length)"""
    if destination == "default":
        return ("::" if family == "inet6" else "0.0.0.0"), 0
    text, _, length = destination.partition("/")
    return text, int(length) if length else (128 if family == "inet6" else 32)


def place(entry):
    """The order of the kernel's tree: by address, longer masks first; a scope is the second 16 bits of an address."""
    text, length = split(entry["family"], entry["destination"])
    raw = int.from_bytes(packed(entry["family"], text), "big")
    return entry["family"], raw | entry["scope"] << 96, -length


def owner_of(state, vnet, family, gateway):
    """The interface by which a gateway is reached, None when there is none: through its network, or by a route to the
    gateway itself (route.c, ifa_ifwithroute)."""
    name = gateway.partition("%")[2]
    if name:
        return states.interface_named(state, vnet, name)
    for interface in states.visible(state, vnet):
        if any(reaches(entry, family, gateway) for entry in interface["addresses"]):
            return interface
    own = [e for e in state["routes"] if (e["vnet"], e["family"], e["destination"]) == (vnet, family, gateway)]
    return states.interface_named(state, vnet, own[0]["interface"]) if own else None


def reaches(entry, family, gateway):
    length = entry["length"]
    if entry["family"] != family or length == (128 if family == "inet6" else 32):
        return False
    return states.network(family, gateway, length) == states.network(family, entry["address"], length)


# ── route ────────────────────────────────────────────────────────────────────────────────────────────────────


class Request:
    """The words of one route command."""

    def __init__(self, words):
        self.family = "inet"
        self.interface = None
        self.flags = ""
        self.kind = None
        self.length = None
        rest = []
        words = list(words)
        while words:
            word = words.pop(0)
            if word in ("-inet6", "-6"):
                self.family = "inet6"
            elif word in ("-inet", "-4", "-n", "-q", "-v"):
                continue
            elif word in ("-net", "-host"):
                self.kind = word[1:]
            elif word in ("-interface", "-iface"):
                self.interface = words[-1]
            elif word == "-ifp":
                self.interface = words.pop(0)
            elif word in ("-prefixlen", "-netmask"):
                self.length = words.pop(0)
            elif word in ("-reject", "-blackhole"):
                self.flags = word[1].upper()
            elif word in ("-mtu", "-fib", "-expire"):
                words.pop(0)
            elif not word.startswith("-"):
                rest.append(word)
        self.destination = self.whole(rest[0]) if rest else None
        self.gateway = rest[1] if len(rest) > 1 else None

    def whole(self, text):
        if text == "default":
            return text
        address, _, length = text.partition("/")
        if packed(self.family, address) is None and packed("inet6", address):
            raise Failure(f"route: bad address: {text}", 68)
        if packed(self.family, address) is None:
            raise Failure(f"route: bad address: {text}", 68)
        length = length or self.length
        if not length:
            return address
        scope = address.partition("%")[2]
        return f"{states.network(self.family, address, int(length))}{'%' * bool(scope)}{scope}/{length}"

    def shown(self):
        kind = "net" if self.destination == "default" or "/" in self.destination else "host"
        return f"{kind} {self.destination.partition('/')[0]}"


def add(state, vnet, family, destination, gateway, flags, interface=None):
    """Adds a static route; a Failure without a text is the errno's words in `message`."""
    mine = [e for e in table(state, vnet) if (e["family"], e["destination"]) == (family, destination)]
    if mine:
        raise Failure("route already in table")
    if interface is None:
        owner = owner_of(state, vnet, family, gateway) if gateway not in ("::1", "127.0.0.1") else {"name": "lo0"}
        if owner is None:
            raise Failure("Network is unreachable")
        interface = owner["name"]
    host = destination != "default" and "/" not in destination
    words = "U" + "G" * (packed(family, gateway) is not None and "R" not in flags) + "H" * host + flags + "S"
    words = "".join(letter for letter in "UGHRSB" if letter in words)
    state["routes"].append(
        {
            "vnet": vnet,
            "family": family,
            "destination": destination,
            "gateway": gateway,
            "interface": interface,
            "flags": words,
        }
    )


def route_add(state, vnet, request):
    gateway = request.gateway
    interface = request.interface
    if gateway is None:
        raise Failure("route: writing to routing socket: Invalid argument")
    if interface == gateway:
        named = states.interface_named(state, vnet, gateway)
        if named is None:
            raise Failure(f"route: bad interface name: {gateway}", 68)
        gateway = f"link#{named['index']}"
    elif packed(request.family, gateway) is None:
        raise Failure(f"route: bad address: {gateway}", 68)
    said = f"add {request.shown()}: gateway {request.gateway}"
    try:
        add(state, vnet, request.family, request.destination, gateway, request.flags, interface)
    except Failure as failure:
        print(f"{said} fib 0: {failure.message}")
        if failure.message == "Network is unreachable":
            complain("route: writing to routing socket: Network is unreachable")
        raise Failure("") from None
    print(said)


def found(state, vnet, request):
    for route in state["routes"]:
        if (route["vnet"], route["family"], route["destination"]) == (vnet, request.family, request.destination):
            return route
    return None


def route_delete(state, vnet, request):
    route = found(state, vnet, request)
    said = f"delete {request.shown()}" + (f": gateway {request.gateway}" if request.gateway else "")
    if route is None:
        print(f"{said} fib 0: not in table")
        raise Failure("route: route has not been found")
    state["routes"].remove(route)
    print(said)


def route_change(state, vnet, request):
    route = found(state, vnet, request)
    said = f"change {request.shown()}: gateway {request.gateway}"
    if route is None:
        print(f"{said} fib 0: not in table")
        raise Failure("route: route has not been found")
    owner = owner_of(state, vnet, request.family, request.gateway)
    if owner is None:
        print(f"{said} fib 0: gateway uses the same route")
        raise Failure("route: writing to routing socket: Invalid argument")
    route |= {"gateway": request.gateway, "interface": owner["name"]}
    print(said)


def covers(entry, family, text):
    address, length = split(family, entry["destination"])
    scopes = address.partition("%")[2], text.partition("%")[2]
    return states.network(family, address, length) == states.network(family, text, length) and (
        not scopes[0] or scopes[0] == scopes[1]
    )


def route_get(state, vnet, request):
    text, length = split(request.family, request.destination)
    entries = [e for e in table(state, vnet) if e["family"] == request.family and covers(e, request.family, text)]
    entries = [e for e in entries if split(request.family, e["destination"])[1] <= length or length == 0]
    entries = [e for e in entries if length or e["destination"] == "default"]
    if not entries:
        raise Failure("route: route has not been found", 255)
    best = max(entries, key=lambda e: split(request.family, e["destination"])[1])
    address, length = split(request.family, best["destination"])
    print(f"   route to: {text}\ndestination: {address}")
    if "H" not in best["flags"]:
        print(f"       mask: {mask(request.family, length)}")
    if "G" in best["flags"]:
        print(f"    gateway: {best['gateway']}")
    flags = ["UP"] + ["GATEWAY"] * ("G" in best["flags"]) + ["HOST"] * ("H" in best["flags"]) + ["DONE"]
    flags += ["STATIC"] * ("S" in best["flags"])
    mtu = next((i["mtu"] for i in states.visible(state, vnet) if i["name"] == best["interface"]), 1500)
    print(f"        fib: 0\n  interface: {best['interface']}\n      flags: <{','.join(flags)}>")
    print(" recvpipe  sendpipe  ssthresh  rtt,msec    mtu        weight    expire")
    print(f"       0         0         0         0   {mtu:>7}         1         0 ")


def mask(family, length):
    bits = 128 if family == "inet6" else 32
    return states.shown(family, (((1 << length) - 1) << (bits - length)).to_bytes(bits // 8, "big"))


def route_flush(state, vnet, request):
    gone = [r for r in state["routes"] if r["vnet"] == vnet and "G" in r["flags"]]
    state["routes"] = [r for r in state["routes"] if r not in gone]
    for route in gone:
        print(f"{route['destination']:<20} {route['gateway']:<20} fib 0 done")


VERBS = {
    "add": route_add,
    "delete": route_delete,
    "del": route_delete,
    "change": route_change,
    "get": route_get,
    "flush": route_flush,
}


def route(words):
    options, rest = [], list(words)
    jid = here()
    while rest and rest[0].startswith("-"):
        options.append(rest.pop(0))
        if options[-1] == "-j" and states.newer(load(), (13, 3)):
            jail = find_jail(load(), rest.pop(0))
            if jail is None:
                raise Failure("route: invalid jail")
            jid = jail["jid"]
    if not rest or rest[0] not in VERBS:
        raise Failure("usage: route [-j jail] [-46dnqtv] command [[modifiers] args]", 64)
    request = Request([*options, *rest[1:]])
    with changing() as state:
        VERBS[rest[0]](state, vnet_of(state, jid), request)
    return 0


# ── netstat ──────────────────────────────────────────────────────────────────────────────────────────────────


def cut(text, width):
    return text[:width]


def family_table(family, entries):
    wide, gateways = (33, 29) if family == "inet6" else (18, 18)
    print(f"\n{NAMES[family]}:\n{'Destination':<{wide}} {'Gateway':<{gateways}} Flags     Netif Expire")
    for e in entries:
        print(
            f"{cut(e['destination'], wide):<{wide}} {cut(e['gateway'], gateways):<{gateways}} "
            f"{e['flags']:<6} {cut(e['interface'], 8):>8}"
        )


def json_entry(e):
    pretty = ",".join(f'"{PRETTY[flag]}"' for flag in e["flags"] if flag in PRETTY)
    return (
        f'{{"destination":"{e["destination"]}","gateway":"{e["gateway"]}","flags":"{e["flags"]}", '
        f'"flags_pretty": [{pretty}],"weight":1,"interface-name":"{cut(e["interface"], 8)}"}}'
    )


def netstat(words):
    as_json = "--libxo" in words or any(w.startswith("--libxo") for w in words)
    words = [w for w in words if not w.startswith("--libxo") and w != "json"]
    options, _ = getopt(words, "46AaBbCcdF:f:ghI:iLlM:mN:np:PQRrSsTuWw:xzj:", "usage: netstat", "netstat")
    if "r" not in options:
        print("Active Internet connections")
        return 0
    state = load()
    entries = table(state, vnet_of(state, here()))
    families = (
        [options["f"]]
        if "f" in options
        else ["inet6"]
        if "6" in options
        else ["inet"]
        if "4" in options
        else list(NAMES)
    )
    shown = [(f, [e for e in entries if e["family"] == f]) for f in families]
    shown = [(f, found) for f, found in shown if found]
    if as_json:
        body = ", ".join(
            f'{{"address-family":"{NAMES[f]}", "rt-entry": [{", ".join(map(json_entry, found))}]}}'
            for f, found in shown
        )
        print(f'{{"statistics": {{"route-information": {{"route-table": {{"rt-family": [{body}]}}}}}}}}')
        return 0
    print("Routing tables")
    for family, found in shown:
        family_table(family, found)
    return 0


# ── neighbours ───────────────────────────────────────────────────────────────────────────────────────────────


def ndp(words):
    """Entries that were set, and of each address of an interface its own."""
    words = [word for word in words if word != "-n"]
    if words[:1] == ["-s"]:
        with changing() as state:
            vnet = vnet_of(state, here())
            kept = [n for n in state["neighbours"] if (n["vnet"], n["address"]) != (vnet, words[1])]
            state["neighbours"] = [
                *kept,
                {"vnet": vnet, "address": words[1], "ether": words[2], "proxy": "proxy" in words},
            ]
        return 0
    if words[:1] == ["-d"]:
        with changing() as state:
            vnet = vnet_of(state, here())
            kept = [n for n in state["neighbours"] if (n["vnet"], n["address"]) != (vnet, words[1])]
            if len(kept) == len(state["neighbours"]):
                raise Failure(f"ndp: delete {words[1]}: No such file or directory")
            state["neighbours"] = kept
            print(f"{words[1]} ({words[1]}) deleted")
        return 0
    return neighbours("inet6")


def neighbours(family):
    state = load()
    vnet = vnet_of(state, here())
    print(f"{'Neighbor':<31} {'Linklayer Address':<17} {'Netif':>6} {'Expire':<9} S Flags")
    for interface in states.visible(state, vnet):
        for entry in interface["addresses"]:
            if entry["family"] == family and interface["ether"]:
                scope = f"%{interface['name']}" if entry["address"].startswith("fe80:") else ""
                print(neighbour(entry["address"] + scope, interface["ether"], interface["name"]))
    for one in state["neighbours"]:
        if one["vnet"] == vnet and (":" in one["address"]) == (family == "inet6"):
            owner = owner_of(state, vnet, family, one["address"])
            name = owner["name"] if owner else "(none)"
            print(neighbour(one["address"], one["ether"], name, "p" * one["proxy"]))
    return 0


def neighbour(address, ether, interface, flags=""):
    return f"{address:<31} {ether:<17} {interface:>6} {'permanent':<9} R {flags}"


def arp(words):
    state = load()
    for interface in states.visible(state, vnet_of(state, here())):
        for entry in interface["addresses"]:
            if entry["family"] == "inet" and interface["ether"]:
                print(f"? ({entry['address']}) at {interface['ether']} on {interface['name']} permanent [ethernet]")
    return 0


def ping(words):
    """Answers when the address is one of the host's or of a jail's that is up; no packets."""
    state = load()
    target = words[-1].partition("%")[0]
    there = any(a["address"] == target and i["up"] for i in state["interfaces"] for a in i["addresses"])
    return 0 if there else 2


COMMANDS = {"route": route, "netstat": netstat, "ndp": ndp, "arp": arp, "ping": ping, "ping6": ping}
