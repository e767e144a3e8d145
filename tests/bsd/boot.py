"""What /etc/rc and /etc/rc.shutdown do in a jail that has no such scripts of its own: network and daemons of rc.conf.

In: the jail, and the rc.conf that is at /etc where this runs. Out: the jail's interfaces, routes and processes in the
state, and the messages of rc(8) that matter. Must not know jail(8).
"""

import os

from .fresh import rc_routes
from .state import changing, free_index, interface_named, jail_of, loopback, vnet_of


def rc_conf(path="/etc/rc.conf"):
    """Assignments of plain values; later ones win."""
    found = {}
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                name, equals, value = line.strip().partition("=")
                if equals and name.replace("_", "a").isalnum():
                    found[name] = value.strip("\"'")
    return found


def start(jail):
    conf = rc_conf()
    if jail["vnet"]:
        network(jail["jid"], conf)
    with changing() as state:
        names = ["/usr/sbin/syslogd " + conf.get("syslogd_flags", "-s")]
        if conf.get("sshd_enable", "NO").upper() == "YES":
            names.append("sshd: /usr/sbin/sshd [listener] 0 of 10-100 startups (sshd)")
        for name in names:
            spawn(state, jail["jid"], name)
    print("Starting syslogd.", flush=True)
    return 0


def spawn(state, jid, command):
    pid = state["units"]["pid"] = state["units"].get("pid", 1000) + 7
    holder = jail_of(state, jid) if jid else state
    holder.setdefault("processes", []).append({"pid": pid, "command": command})
    return pid


def network(jid, conf):
    """rc.d/netif and rc.d/routing; the words are the stand-in ifconfig's own."""
    with changing() as state:
        old = interface_named(state, jid, "lo0")
        if old is None:
            state["interfaces"].append(loopback(jid, free_index(state, jid), up=True))
        else:
            old.update(loopback(jid, old["index"], up=True))
        names = [i["name"] for i in state["interfaces"] if i["vnet"] == jid]
        for name in names:
            assign(state, interface_named(state, jid, name), conf)
        routed(state, jid, conf)


def assign(state, interface, conf):
    from .interfaces import configure

    variable = "ifconfig_" + "".join(c if c.isalnum() else "_" for c in interface["name"])
    if variable in conf:
        configure(state, interface, [w for w in conf[variable].split() if w.upper() not in ("DHCP", "SYNCDHCP")])
    if variable + "_ipv6" in conf:
        configure(state, interface, ["inet6", "-ifdisabled", "up"])
        configure(state, interface, conf[variable + "_ipv6"].split())
    for number in range(8):
        if f"{variable}_alias{number}" in conf:
            configure(state, interface, [*conf[f"{variable}_alias{number}"].split(), "alias"])


def routed(state, jid, conf):
    from .routes import add

    for family, variable in (("inet", "defaultrouter"), ("inet6", "ipv6_defaultrouter")):
        if conf.get(variable, "NO") != "NO":
            add(state, jid, family, "default", conf[variable], "")
    state["routes"] += rc_routes(jid)


def stop(jail):
    with changing() as state:
        jail_of(state, jail["jid"])["processes"] = []
    print(".", flush=True)
    return 0


PRETENDED = {"/etc/rc": start, "/etc/rc.shutdown": stop}
__all__ = ["PRETENDED", "rc_conf", "spawn", "vnet_of"]
