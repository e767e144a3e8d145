"""Who reaches whom, tried with the host's own nc and ping: from the host, from inside a jail, from a visitor's.

In: a Host. Out: pages, and whether something opens or answers. All waiting is done on the host, in one connection:
an application that answers one visitor at a time is away for a moment after each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from .host import Done, Host

HAND = "byhand"
VISITOR, VISITORS_ROUTER = "fd52:6563:6f6e:fffe::2", "fd52:6563:6f6e:fffe::1"
TRY = """
n=0
while [ $n -lt {tries} ]; do
    n=$((n + 1))
    {command} && exit 0
    sleep 2
done
exit 1
"""


def inside(jail: str, command: str) -> str:
    """The command, as its jail's root; "" is the host itself."""
    return f"jexec {jail} {command}" if jail else command


def tried(host: Host, command: str, tries: int) -> Done:
    return host.run(TRY.format(command=command, tries=tries), check=False, timeout=900)


def page(host: Host, address: str, port: int, start: str = "", tries: int = 20) -> Done:
    """What a visitor reads; a jail that is starting is waited for."""
    asking = inside(start, f"nc -n -w 10 {address} {port} </dev/null")
    return tried(host, f'text=$({asking}) && [ -n "$text" ] && echo "$text"', tries)


def opens(host: Host, address: str, port: int, start: str = "", tries: int = 3) -> Done:
    """Exit status 0 when a TCP connection is accepted, in one of some tries."""
    return tried(host, inside(start, f"nc -n -z -w 5 {address} {port}"), tries)


def pings(host: Host, address: str, start: str = "", tries: int = 5) -> Done:
    kind = "ping -6" if ":" in address else "ping"
    return tried(host, inside(start, f"{kind} -n -c 2 -t 15 {address}"), tries)


# ── somebody outside, and other things that are not ours ─────────────────────────────────────────────────────

MAKE = f"""
set -e
kldload -n if_bridge
kldload -n if_epair
ifconfig bridge create name byhand0 >/dev/null
ifconfig byhand0 inet 192.0.2.1/24
side=$(ifconfig epair create)
ifconfig $side name byhand1 >/dev/null
ifconfig ${{side%a}}b name byhand2 >/dev/null
jail -c name={HAND} path=/ host.hostname=byhand.example vnet vnet.interface=byhand2 persist \\
    allow.raw_sockets
ifconfig byhand1 inet6 -ifdisabled no_dad
ifconfig byhand1 inet6 {VISITORS_ROUTER}/64
ifconfig byhand1 up
jexec {HAND} ifconfig lo0 up
jexec {HAND} ifconfig byhand2 inet6 -ifdisabled no_dad
jexec {HAND} ifconfig byhand2 inet6 {VISITOR}/64
jexec {HAND} ifconfig byhand2 up
jexec {HAND} route -n add -inet6 default {VISITORS_ROUTER}
"""
FILES = """
mkdir -p /etc/reconciler/jails
echo 'not of the reconciler' >/etc/reconciler/byhand
echo 'not of the reconciler' >/etc/reconciler/jails/byhand.txt
"""


def make_by_hand(host: Host, files: bool = True) -> None:
    """A bridge, a jail that is also our visitor, and files in our own directories. All of it must be left alone."""
    host.run(MAKE + (FILES if files else ""))


def theirs(look: Mapping[str, str]) -> dict[str, str]:
    """The part of a look that is about what is not ours. Anchors of pf under other names are the administrator's."""
    whole = {title for title in look if title == f"inside {HAND}" or re.match(r"anchor (?!reconciler)", title)}
    kept = {title: [line for line in text.splitlines() if HAND in line] for title, text in look.items()}
    return {title: look[title] if title in whole else "\n".join(lines) for title, lines in kept.items()}
