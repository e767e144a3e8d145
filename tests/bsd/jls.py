"""jls(8): which jails there are, in its several formats.

In: options and names of parameters. Out: text or libxo's JSON. Reads the state and changes nothing.
"""

from .commands import getopt
from .jail import ALLOW, KERNEL, quoted
from .state import Failure, find_jail, here, load, names

USAGE = "usage: jls [-dhNnqv] [-j jail] [param ...]"
ORDER = names("""devfs_ruleset dying enforce_statfs host ip4 ip6 jid name osreldate
    osrelease parent path persist securelevel sysvmsg sysvsem sysvshm vnet zfs allow.chflags allow.mlock
    allow.mount allow.mount.devfs allow.mount.procfs allow.mount.tmpfs allow.mount.zfs allow.quotas
    allow.raw_sockets allow.read_msgbuf allow.reserved_ports allow.set_hostname allow.socket_af
    allow.suser allow.sysvipc allow.unprivileged_proc_debug children.cur children.max cpuset.id
    host.domainname host.hostid host.hostname host.hostuuid ip4.addr ip4.saddrsel ip6.addr ip6.saddrsel
    zfs.mount_snapshot""")
"""`all` on a host with the module zfs loaded; without it the parameters with zfs in their names are not there."""
NOT_SET = ("dying", "parent", "children.cur", "cpuset.id", "ip4.addr", "ip6.addr", "ip4.saddrsel", "ip6.saddrsel")
"""What `jls -s` leaves out: it prints what jail(8) would take."""
BOOLEAN = {"dying", "persist", "ip4.saddrsel", "ip6.saddrsel"} | {f"allow.{word}" for word in ALLOW}


def order(state):
    return [key for key in ORDER if "zfs" in state["modules"] or "zfs" not in key]


def value(state, jail, key):
    """A string, or True and False."""
    simple = {
        "jid": str(jail["jid"]),
        "name": jail["name"],
        "path": jail["path"],
        "parent": str(jail["parent"]),
        "dying": jail["dying"],
        "persist": jail["persist"],
        "vnet": "new" if jail["vnet"] else "inherit",
        "osrelease": state["release"],
        "osreldate": str(state["osreldate"]),
        "zfs": "new",
        "zfs.mount_snapshot": "0",
        "children.cur": "0",
        "cpuset.id": str(jail.get("cpuset", 3)),
        "ip4.saddrsel": True,
        "ip6.saddrsel": True,
    }
    if key.startswith("allow."):
        return key.removeprefix("allow.") in jail["allow"]
    return simple[key] if key in simple else jail["parameters"].get(key, "")


def word(state, jail, key, named, short):
    shown = value(state, jail, key)
    if isinstance(shown, bool):
        head, dot, last = key.rpartition(".")
        return ("true" if shown else "false") if not named else key if shown else f"{head}{dot}no{last}"
    # Without -q an empty list of addresses is left empty (jls.c).
    bare = key in ("ip4.addr", "ip6.addr") and not short
    text = shown if bare else quoted(shown)
    return f"{key}={text}" if named else text


def plain_table(jails, name):
    width, first = (15, " JID            ") if name else (6, "   JID")
    print(f"{first} {' ' if not name else ''}{'IP Address':15} {'Hostname':29} Path")
    for jail in jails:
        identity = f" {jail['name']:<15}" if name else f"{jail['jid']:>{width}} "
        print(f"{identity} {'':15.15} {jail['parameters']['host.hostname']:<29.29} {jail['path']:.74}")


def verbose_table(jails):
    print("   JID  Hostname                      Path\n        Name                          State")
    print("        CPUSetID\n        IP Address(es)")
    for jail in jails:
        print(f"{jail['jid']:>6}  {jail['parameters']['host.hostname']:<29.29} {jail['path']:.74}")
        print(f"{'':6}  {jail['name']:<29.29} {'DYING' if jail['dying'] else 'ACTIVE'}")
        print(f"{'':6}  {jail.get('cpuset', 3)}")


def rows(state, jails, keys, options):
    if "h" in options:
        print(" ".join(keys))
    for jail in jails:
        named = "n" in options or "s" in options
        print(" ".join(word(state, jail, key, named, "q" in options) for key in keys))


# ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────


def text(value):
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def json_plain(jail):
    host = text(jail["parameters"]["host.hostname"])
    return f'{{"jid":{jail["jid"]},"ipv4":"","hostname":{host},"path":{text(jail["path"])}}}'


def json_verbose(jail):
    host = text(jail["parameters"]["host.hostname"])
    state = "DYING" if jail["dying"] else "ACTIVE"
    return (
        f'{{"jid":{jail["jid"]},"hostname":{host},"path":{text(jail["path"])},"name":{text(jail["name"])},'
        f'"state":"{state}","cpusetid":{jail.get("cpuset", 3)}, "ipv4_addrs": [], "ipv6_addrs": []}}'
    )


def json_row(state, jail, keys, named):
    out = []
    for key in keys:
        shown = value(state, jail, key)
        if key in ("ip4.addr", "ip6.addr"):
            out.append(f' "{key}": []')
        elif isinstance(shown, bool):
            truth = "true" if shown else "false"
            out.append(f'"{key}":{truth}' if named else f'"{key}":"{truth}"')
        else:
            out.append(f'"{key}":{text(shown)}')
    return "{" + ",".join(out) + "}"


def json(state, jails, keys, options):
    if "v" in options and not keys:
        shown = [json_verbose(jail) for jail in jails]
    elif keys:
        shown = [json_row(state, jail, keys, "n" in options) for jail in jails]
    else:
        shown = [json_plain(jail) for jail in jails]
    print('{"__version": "2", "jail-information": {"jail": [' + ", ".join(shown) + "]}}")
    return 0


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────


def wanted(state, options):
    inside = [j for j in state["jails"] if here() == 0 or j["parent"] == here()]
    jails = [j for j in inside if not j["dying"] or "d" in options]
    if "j" in options:
        one = find_jail(state, options["j"], dying="d" in options)
        if one is None:
            raise Failure(f'jls: jail "{options["j"]}" not found')
        return [one]
    # A later jail is in front of one with a greater jid: the kernel's list is sorted by jid in 13, "123" came first.
    return sorted(jails, key=lambda jail: jail["jid"])


def jls(words):
    as_json = any(w.startswith("--libxo") and "json" in w for w in words)
    words = [w for w in words if not w.startswith("--libxo")]
    options, keys = getopt(words, "dhj:Nnqsv", USAGE, "jls")
    state = load()
    for key in keys:
        if key not in [*KERNEL, "dying", "all"]:
            raise Failure(f"jls: unknown parameter: {key}")
    if keys == ["all"] or (not keys and set("nsq") & set(options)):
        keys = [k for k in order(state) if "s" not in options or k not in NOT_SET]
    jails = wanted(state, options)
    if as_json:
        return json(state, jails, keys, options)
    if keys:
        return rows(state, jails, keys, options)
    return verbose_table(jails) if "v" in options else plain_table(jails, "N" in options)


COMMANDS = {"jls": jls}
