"""The state of a host after its installation, as the recorded host was at first: one NIC with IPv4, no jails.

In: a release, whether there is a ZFS pool. Out: the state's dictionary, with every key that any command uses.
"""

from . import state as states

ROOT_DATASET = {
    "set": {"mountpoint": "none", "atime": "off"},
    "origin": "",
    "mounted": False,
    "used": 120009216,
    "creation": 1795220748,
    "txg": 1,
}


def nic(name: str, ether: str, index: int) -> dict:
    return states.interface(name, "ether", 0, index, ether) | {
        "up": True,
        "options": "80028<VLAN_MTU,JUMBO_MTU,LINKSTATE>",
        "running": True,
        "media": "Ethernet autoselect (10Gbase-T <full-duplex>)",
        "status": "active",
    }


def fresh(release: str, pool: bool) -> dict:
    """As the recorded host was at first: one NIC with an IPv4 address, no jails."""
    major, minor = release.split("-")[0].split(".")[:2]
    uplink = nic("vtnet0", "52:54:00:12:34:56", 1)
    uplink["addresses"] = [{"family": "inet", "address": "10.0.2.15", "length": 24}]
    return {
        "release": release,
        "osreldate": int(f"{major}{minor:0>2}001") if int(major) < 14 else int(f"{major}{minor:0>2}000"),
        "boot": 1795220789,
        "interfaces": [uplink, states.loopback(0, 2, up=True)],
        "groups": [],
        "routes": [route("inet", "default", "10.0.2.2", "vtnet0"), *rc_routes(0)],
        "jails": [],
        "jids": 0,
        "linger": [],
        "units": {},
        "mounts": [
            {"from": "/dev/gpt/rootfs", "on": "/", "type": "ufs", "options": ["local", "soft-updates"]},
            {"from": "devfs", "on": "/dev", "type": "devfs", "options": []},
        ],
        "modules": ["kernel", "zfs", "xdr"] if pool else ["kernel"],
        "sysctls": sysctls(release, major, minor),
        "pf": {"enabled": False, "options": [], "rules": [], "nat": [], "tables": {}, "anchors": {}, "killed": []},
        "rctl": [],
        "devfs": {"1": [], "2": [], "3": [], "4": [4], "5": [5]},
        "services": ["syslogd", "sshd"],
        "neighbours": [],
        "pool": None,
    } | ({"pool": {"name": "zroot", "datasets": {"zroot": ROOT_DATASET}}} if pool else {})


def route(family: str, destination: str, gateway: str, interface: str, vnet: int = 0, flags: str = "UGS") -> dict:
    return {
        "vnet": vnet,
        "family": family,
        "destination": destination,
        "gateway": gateway,
        "interface": interface,
        "flags": flags,
    }


def rc_routes(vnet: int) -> list[dict]:
    """Those that rc.d/routing adds: what must not leave the host."""
    places = ("fe80::/10", "ff02::/16", "::ffff:0.0.0.0/96", "::/96")
    return [route("inet6", place, "::1", "lo0", vnet, "URS") for place in places]


def sysctls(release: str, major: str, minor: str) -> dict[str, str]:
    return {
        "kern.ostype": "FreeBSD",
        "kern.osrelease": release,
        "kern.hostname": "fbsd13.test",
        "kern.features.vimage": "1",
        "kern.racct.enable": "1",
        "kern.securelevel": "-1",
        "kern.boottime": "{ sec = 1795220789, usec = 0 } Sat Nov 21 00:26:29 2026",
        "security.jail.jailed": "0",
        "hw.physmem": "2124906496",
        "hw.ncpu": "2",
        "hw.machine": "amd64",
        "net.inet.ip.forwarding": "0",
        "net.inet6.ip6.forwarding": "0",
        "net.inet6.ip6.dad_count": "1",
        "net.inet6.ip6.accept_rtadv": "0",
        "net.inet6.ip6.rfc6204w3": "0",
        "net.inet6.ip6.redirect": "1",
        "net.inet.ip.redirect": "1",
        "vfs.usermount": "0",
    }
