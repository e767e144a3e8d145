"""What the kernel is asked directly: modules, sysctls, rctl rules, devfs rulesets, and its name.

In: words. Out: what the commands print; modules, sysctls, rules and rulesets in the state.
"""

from .commands import complain, getopt
from .state import JAIL, Failure, changing, here, jail_of, load, names

MODULES = names("""if_bridge bridgestp if_epair if_vlan pf pflog nullfs tmpfs zfs xdr fdescfs
    linux linux64 ipfw dummynet if_tap if_tun if_wg carp tmpfs unionfs""")
NEEDS = {"if_bridge": ["bridgestp"], "zfs": ["xdr"], "pflog": ["pf"], "dummynet": ["ipfw"]}
BUILT_IN = {"kernel", "tmpfs", "ufs", "devfs", "ether", "loop"}
SIZES = {
    "kernel": "d54fe8",
    "zfs": "558b08",
    "xdr": "5108",
    "if_bridge": "7638",
    "bridgestp": "50d8",
    "if_epair": "3a64",
    "pf": "3b278",
}
READ_ONLY = {"kern.osreldate", "kern.ostype", "kern.osrelease", "hw.ncpu", "hw.physmem", "hw.machine", "kern.boottime"}
READ_ONLY |= {"kern.features.vimage", "security.jail.jailed", "security.jail.vnet", "kern.racct.enable"}
BY_MODULE = {
    "if_bridge": {
        "net.link.bridge.ipfw": "0",
        "net.link.bridge.allow_llz_overlap": "0",
        "net.link.bridge.inherit_mac": "0",
        "net.link.bridge.log_stp": "0",
        "net.link.bridge.pfil_local_phys": "0",
        "net.link.bridge.pfil_member": "1",
        "net.link.bridge.ipfw_arp": "0",
        "net.link.bridge.pfil_bridge": "1",
        "net.link.bridge.pfil_onlyip": "1",
    }
}
PER_VNET = ("net.inet.", "net.inet6.", "net.link.")


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────


def kldload(words):
    options, names = getopt(words, "nqv", "usage: kldload [-nqv] file ...", "kldload")
    status = 0
    with changing() as state:
        for name in names:
            name = name.rpartition("/")[2].removesuffix(".ko")
            if name in state["modules"] or name in BUILT_IN:
                if "n" not in options:
                    complain(f"kldload: can't load {name}: module already loaded or in kernel")
                    status = 1
            elif name not in MODULES:
                complain(f"kldload: can't load {name}: No such file or directory")
                status = 1
            else:
                state["modules"] += [m for m in (name, *NEEDS.get(name, ())) if m not in state["modules"]]
    return status


def kldunload(words):
    _, names = getopt(words, "fvn", "usage: kldunload [-fv] [-n] name", "kldunload")
    with changing() as state:
        for name in names:
            if name not in state["modules"]:
                raise Failure(f"kldunload: can't find file {name}")
            state["modules"].remove(name)
            if name == "pf":
                state["pf"] |= {"enabled": False, "rules": [], "nat": [], "tables": {}, "anchors": {}}
    return 0


def kldstat(words):
    options, _ = getopt(words, "dhi:m:n:qv", "usage: kldstat [-h] [-q] [-v] [-i id] [-n filename]", "kldstat")
    loaded = load()["modules"]
    for letter, fault in (
        ("m", "can't find module {}: No such file or directory"),
        ("n", "can't find file {}: No such file or directory"),
    ):
        if letter in options:
            name = options[letter].removesuffix(".ko")
            there = name in loaded or (letter == "m" and name in BUILT_IN)
            if not there:
                raise Failure("" if "q" in options else "kldstat: " + fault.format(options[letter]))
            return 0
    print("Id Refs Address                Size Name")
    for number, name in enumerate(loaded, 1):
        file = name if name == "kernel" else f"{name}.ko"
        print(f"{number:>2} {1:>4} 0xffffffff{0x80200000 + number:08x} {SIZES.get(name, '4000'):>8} {file}")
    return 0


# ── sysctl ───────────────────────────────────────────────────────────────────────────────────────────────────


def oids(state):
    """What there is here: a jail with a vnet has values of its own below PER_VNET."""
    found = dict(state["sysctls"]) | {"kern.osreldate": str(state["osreldate"])}
    for module, values in BY_MODULE.items():
        if module in state["modules"]:
            found = values | found
    if "pf" in state["modules"]:
        found.setdefault("net.pf.request_maxcount", "65535")
    jail = jail_of(state, here())
    if jail is not None:
        found |= {"security.jail.jailed": "1", "security.jail.vnet": str(int(jail["vnet"]))}
        found["kern.hostname"] = jail["parameters"]["host.hostname"]
        found |= jail.get("sysctls", {})
    for interface in state["interfaces"]:
        name, number = interface["clone"].rstrip("0123456789"), interface["clone"].lstrip("abcdefghijklmnopqrstuvwxyz_")
        if interface["kind"] == "ether" and interface["vnet"] == 0:
            found.setdefault(f"dev.{name}.{number}.%desc", "VirtIO Networking Adapter")
    return found


def write(state, name, new):
    jail = jail_of(state, here())
    if jail is not None and not (jail["vnet"] and name.startswith(PER_VNET)) and name != "kern.hostname":
        raise Failure(f"sysctl: {name}={new}: Operation not permitted")
    if jail is not None and name == "kern.hostname":
        jail["parameters"]["host.hostname"] = new
    elif jail is not None:
        jail.setdefault("sysctls", {})[name] = new
    else:
        state["sysctls"][name] = new


def numeric(value):
    return value.lstrip("-").isdigit()


def assign(state, word, options):
    name, _, new = word.partition("=")
    known = oids(state)
    if name not in known:
        raise Failure("" if "i" in options else f"sysctl: unknown oid '{name}'")
    if name in READ_ONLY:
        raise Failure(f"sysctl: oid '{name}' is read only")
    if numeric(known[name]) and not numeric(new):
        raise Failure(f"sysctl: invalid integer '{new}'")
    write(state, name, new)
    if "q" not in options:
        print(f"{known[name]} -> {new}" if "n" in options else f"{name}: {known[name]} -> {new}")


def sysctl(words):
    options, names = getopt(words, "AabB:deFf:hiNnoqTtWwxX", "usage: sysctl", "sysctl")
    if "f" in options:
        with open(options["f"]) as file:
            names += [line.split("#")[0].strip() for line in file if line.split("#")[0].strip()]
    status = 0
    with changing() as state:
        for word in names if names else [""]:
            try:
                assign(state, word, options) if "=" in word else read(state, word, options)
            except Failure as failure:
                if failure.message:
                    complain(failure.message)
                status = 1
    return status


def read(state, name, options):
    known = oids(state)
    found = [name] if name in known else [oid for oid in known if oid.startswith(name + ".") or not name]
    if not found:
        raise Failure("" if "i" in options else f"sysctl: unknown oid '{name}'")
    separator = "=" if "e" in options else ": "
    for oid in found:
        if "N" in options:
            print(oid)
        else:
            print(known[oid] if "n" in options else f"{oid}{separator}{known[oid]}")


# ── rctl ─────────────────────────────────────────────────────────────────────────────────────────────────────

RESOURCES = names("""cputime datasize stacksize coredumpsize memoryuse memorylocked maxproc
    openfiles vmemoryuse pseudoterminals swapuse nthr msgqqueued msgqsize nmsgq nsem nsemop nshm shmsize
    wallclock pcpu readbps writebps readiops writeiops""")
ACTIONS = names("""deny log devctl throttle sighup sigint sigkill sigterm sigusr1 sigxcpu sigsegv""")
CANNOT_DENY = ["cputime", "wallclock", "readbps", "writebps", "readiops", "writeiops"]
UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def amount(text):
    """Bytes of `256M`; None when it is no number."""
    number, unit = (text[:-1], UNITS.get(text[-1].lower())) if text and text[-1].lower() in UNITS else (text, 1)
    return int(number) * unit if number.isdigit() else None


def human(number):
    for letter, unit in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number >= unit and number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)


def rule_of(text):
    """subject:id:resource:action=amount, or Failure with the kernel's word."""
    fields = text.split(":")
    if len(fields) != 4 or fields[2] not in RESOURCES:
        raise Failure(f"rctl: failed to add rule '{text}': Invalid argument")
    action, _, limit = fields[3].partition("=")
    number = amount(limit.partition("/")[0])
    bad = action not in ACTIONS or number is None or (action == "deny" and fields[2] in CANNOT_DENY)
    if bad or fields[0] not in ("jail", "user", "process", "loginclass"):
        raise Failure(f"rctl: failed to add rule '{text}': Invalid argument")
    return [fields[0], fields[1], fields[2], action, number]


def fits(rule, filter):
    return all(not want or want == str(have) for want, have in zip(filter, rule, strict=False))


def filter_of(text):
    fields = text.split(":")
    if len(fields) == 4:
        action, _, limit = fields.pop().partition("=")
        fields += [action, str(amount(limit)) if limit else ""]
    return fields


def rctl_add(state, text):
    rule = rule_of(text)
    if rule not in state["rctl"]:
        state["rctl"].append(rule)


def rctl_remove(state, text):
    gone = [rule for rule in state["rctl"] if fits(rule, filter_of(text))]
    if not gone:
        raise Failure(f"rctl: failed to remove rule '{text}': No such process")
    state["rctl"] = [rule for rule in state["rctl"] if rule not in gone]


def rctl_usage(state, text, human_too):
    name = text.partition(":")[2]
    if not any(jail["name"] == name for jail in state["jails"]):
        raise Failure(f"rctl: failed to show resource consumption for '{text}': No such process")
    for resource in RESOURCES:
        print(f"{resource}=0")


def rctl(words):
    options, rest = getopt(words, "ahlnru", "usage: rctl [ -h ] [filter [filter ...]]", "rctl")
    with changing() as state:
        if state["sysctls"].get("kern.racct.enable") != "1":
            raise Failure("rctl: RACCT/RCTL present, but disabled; enable using kern.racct.enable=1 tunable")
        if "l" in options:
            raise Failure(f"rctl: failed to get limits for '{rest[0]}': Operation not supported")
        if "u" in options:
            rctl_usage(state, rest[0], "h" in options)
            return 0
        for letter, function in (("a", rctl_add), ("r", rctl_remove)):
            if letter in options:
                for text in rest:
                    function(state, text)
                return 0
        for rule in rctl_order(state):
            if not rest or any(fits(rule, filter_of(text)) for text in rest):
                number = human(rule[4]) if "h" in options else rule[4]
                print(f"{rule[0]}:{rule[1]}:{rule[2]}:{rule[3]}={number}")
    return 0


def rctl_order(state):
    """The newest rule is the first (kern_rctl.c)."""
    return state["rctl"][::-1]


# ── devfs ────────────────────────────────────────────────────────────────────────────────────────────────────

INCLUDES = {"4": ["include 1", "include 2", "include 3", "path fuse unhide", "path zfs unhide"]}
INCLUDES["5"] = ["include 1", "include 2", "include 3", "include 4", "path pf unhide"]


def devfs(words):
    """`devfs rule [-s N] show|add|del|delset|apply…`: rules are numbered by 100."""
    _, rest = getopt(words, "m:", "usage: devfs [-m mount-point] keyword argument ...", "devfs")
    if rest[:1] != ["rule"]:
        return 0
    more, rest = getopt(rest[1:], "s:", "usage: devfs rule [-s ruleset]", "devfs rule")
    with changing() as state:
        sets = state["devfs"]
        if rest == ["showsets"]:
            print("\n".join(sorted(sets, key=int)))
        elif rest == ["show"]:
            for number, rule in enumerate(rules_of(sets, more["s"]), 1):
                print(f"{number * 100} {rule}")
        else:
            change_rules(sets, more["s"], rest)
    return 0


def rules_of(sets, number):
    return INCLUDES.get(number, []) if number in INCLUDES else sets.get(number, [])


def change_rules(sets, number, words):
    if words[0] == "add":
        words = words[1:] if not (len(words) > 1 and words[1].isdigit()) else words[2:]
        if words and words[0] not in ("path", "include", "type", "hide", "unhide", "mode", "user", "group"):
            raise Failure(f"devfs rule: unknown argument: {words[0]}")
        sets.setdefault(number, []).append(" ".join(words))
    elif words[0] == "delset":
        sets.pop(number, None)
    elif words[0] == "del":
        rules = sets.get(number, [])
        del rules[int(words[1]) // 100 - 1]


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────


def uname(words):
    options, _ = getopt(words, "abiKmnoprsUv", "usage: uname", "uname")
    state = load()
    version = f"FreeBSD {state['release']} LEAN"
    values = {
        "s": "FreeBSD",
        "n": oids(state)["kern.hostname"],
        "r": state["release"],
        "v": version,
        "m": "amd64",
        "p": "amd64",
        "i": "LEAN",
        "K": str(state["osreldate"]),
        "U": str(state["osreldate"]),
        "o": "FreeBSD",
    }
    wanted = set("snrvm") if "a" in options else set(options) or {"s"}
    print(" ".join(value for letter, value in values.items() if letter in wanted))
    return 0


def freebsd_version(words):
    release = load()["release"]
    letters = "".join(w[1:] for w in words if w.startswith("-")) or "u"
    for letter in "kru":
        if letter in letters:
            print(release)
    return 0


def hostname(words):
    state = load()
    print(oids(state)["kern.hostname"])
    return 0


COMMANDS = {
    "kldload": kldload,
    "kldunload": kldunload,
    "kldstat": kldstat,
    "sysctl": sysctl,
    "rctl": rctl,
    "devfs": devfs,
    "uname": uname,
    "freebsd-version": freebsd_version,
    "hostname": hostname,
}
__all__ = ["COMMANDS", "JAIL"]
