"""Where our things are on a FreeBSD host, beyond what every host has, and what its tools call a jail.

Names: a jail's id is `customer--name`. rc(8) and jail(8) want `[a-z][a-z0-9_]*`: `--` becomes `__` and `-` becomes
`_`, and because no id has a double hyphen elsewhere, the id can be told from the name.
"""

from __future__ import annotations

from base64 import b32encode

from reconciler.platforms.files import ETC, digest

JAILS = f"{ETC}/jails"
HOOK = "/usr/local/etc/rc.d/reconciler"
"""rc(8) runs what is in local_startup; a script without an rcvar needs no line in rc.conf."""
EXPIRY = f"{ETC}/pf.expire"
CRON = "/etc/cron.d/reconciler"
TUNNELS = f"{ETC}/tunnels"
LOGS = "/var/log/reconciler"
ANCHOR = "reconciler"
"""What the administrator's pf.conf calls the place of our rules, where they are not all there is."""
DEVICES = "7547"
"""The number of our devfs ruleset; those below 1000 are the system's and the administrator's."""


def jail_name(id: str) -> str:
    return id.replace("-", "_")


def inside(host_side: str) -> str:
    """The jail's end of a port: no renaming on the way in, or two jails' `eth0` meet on the host when they stop."""
    return "e" + b32encode(bytes.fromhex(digest(host_side.encode()))[:7]).decode().lower()[:10]


def hardware(name: str) -> str:
    """The MAC of an end that stays on the host: the kernel's own are a hash of 16 bits and collide."""
    octets = bytes.fromhex(digest(f"host end of {name}".encode()))
    return bytes([octets[0] & 0xFC | 0x02, *octets[1:6]]).hex(":")
