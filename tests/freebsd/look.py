"""How a FreeBSD host looks, without what changes by itself: a script for its sh, and pure functions for what it prints.

In: the output of `ifconfig`, `netstat`, `mount`, `pfctl` and others, by section. Out: text that is equal when nobody
changed anything. Left out: counters, numbers the kernel hands out (link#, scopeid, jid, ports of a bridge), addresses
that it derives from a MAC of its own choice. tests/freebsd/recorded has real outputs of a 13.2 host.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import unified_diff

SYSCTLS = (
    "net.inet.ip.forwarding net.inet.ip.redirect net.inet6.ip6.forwarding net.inet6.ip6.redirect "
    "net.inet6.ip6.rfc6204w3 net.link.bridge.pfil_member net.link.bridge.pfil_bridge net.link.bridge.pfil_onlyip "
    "net.link.bridge.pfil_local_phys"
)
"""What the reconciler sets in the kernel; put back by the sweep."""

LOOK = rf"""
echo '== interfaces'; ifconfig -a
echo '== routes'; netstat -rn
echo '== jails'; jls name path host.hostname
echo '== mounts'; mount -p
echo '== pf'; status=$(pfctl -si 2>/dev/null | sed -n 's/^Status: \([A-Za-z]*\).*/\1/p'); echo "${{status:-Disabled}}"
echo '== rules'; pfctl -sr 2>/dev/null
echo '== translations'; pfctl -sn 2>/dev/null
for anchor in $(pfctl -sA 2>/dev/null); do echo "== anchor $anchor"; pfctl -a "$anchor" -sr 2>/dev/null; done
echo '== limits'; rctl 2>/dev/null
echo '== modules'; kldstat
echo '== devfs'; for n in $(devfs rule showsets); do echo "ruleset $n"; devfs rule -s $n show; done
echo '== sysctls'; sysctl {SYSCTLS}
for jail in $(jls name); do
    echo "== inside $jail"; jexec $jail ifconfig -a; jexec $jail netstat -rn
done
echo '== digests'
find -x /etc /usr/local/etc -type f ! -name resolv.conf ! -name '*.new~' -exec sha256 -r {{}} + 2>/dev/null
echo '== modes'
find -x /etc/reconciler /usr/local/etc/rc.d -exec stat -f '%N %Sp %Su:%Sg %Y' {{}} + 2>/dev/null
:
"""

HAND_MADE = ("groups: bridge", "groups: epair", "media: Ethernet 10Gbase-T (")
"""Of interfaces that have a MAC of the kernel's choice, and link-local addresses made of it. An end of an epair that
was in a jail before is in no group any more; its medium still tells."""
DROPPED = ("options=", "media:", "groups: epair", "id ", "maxage ", "root id ", "ifmaxaddr ")


def sections(output: str) -> dict[str, str]:
    """Title → what stands below it, normalised."""
    found: dict[str, list[str]] = {}
    title = ""
    for line in output.splitlines():
        if line.startswith("== "):
            title = line.removeprefix("== ")
            found.setdefault(title, [])
        else:
            found.setdefault(title, []).append(line)
    found.pop("", None)
    return {title: NORMAL.get(title.partition(" ")[0], ordered)("\n".join(lines)) for title, lines in found.items()}


def difference(before: Mapping[str, str], after: Mapping[str, str], *without: str) -> str:
    """What became different, section by section, as a diff; "" when nothing did."""
    told = []
    for title in sorted({*before, *after} - set(without)):
        was, now = (look.get(title, "").splitlines() for look in (before, after))
        told += [f"{line}\n" for line in unified_diff(was, now, f"{title}, before", f"{title}, now", n=1, lineterm="")]
    return "".join(told)


def ordered(text: str) -> str:
    """Lines with single spaces, sorted."""
    return "\n".join(sorted(" ".join(line.split()) for line in text.splitlines() if line.strip()))


def as_printed(text: str) -> str:
    """Order means something here. pf's optimiser makes tables with names by chance."""
    lines = (re.sub(r"__automatic_\w+", "__automatic", line.strip()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def interfaces(text: str) -> str:
    """Sorted by name, each with its lines sorted below it."""
    blocks: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.strip() and not line[0].isspace():
            name, _, line = line.partition(":")
        if line.strip():
            blocks.setdefault(name, []).append(line.strip())
    return "\n".join(f"{name}: {line}" for name, lines in sorted(blocks.items()) for line in steady(lines))


def steady(lines: list[str]) -> list[str]:
    ours = any(line.startswith(HAND_MADE) for line in lines)
    kept = [line for line in lines if not line.startswith(DROPPED)]
    if ours:
        kept = [line for line in kept if not re.match(r"ether |inet6 fe80::(?!1%)", line)]
    return sorted(steady_line(line) for line in kept)


def steady_line(line: str) -> str:
    line = re.sub(r"(options|flags)=[0-9a-f]+<", r"\1=<", line)
    return re.sub(r" (scopeid 0x[0-9a-f]+|[pv]ltime \S+)", "", line)


def routes(text: str) -> str:
    """Destination, gateway, flags, interface; without those of link-local addresses."""
    rows = [line.split()[:4] for line in text.splitlines()]
    kept = [row for row in rows if len(row) == 4 and row[0] != "Destination" and not row[0].startswith("fe80::")]
    return "\n".join(sorted(" ".join("link" if word.startswith("link#") else word for word in row) for row in kept))


def inside(text: str) -> str:
    """Of a jail: its interfaces, then its routes."""
    first, marker, rest = text.partition("Routing tables")
    return interfaces(first) + ("\n" + routes(rest) if marker else "")


def modules(text: str) -> str:
    return ordered("\n".join(line.split()[-1] for line in text.splitlines()[1:] if line.split()))


def digests(text: str) -> str:
    """Path first."""
    return ordered("\n".join(" ".join(reversed(line.split(None, 1))) for line in text.splitlines()))


NORMAL: Mapping[str, Callable[[str], str]] = {
    "interfaces": interfaces,
    "routes": routes,
    "inside": inside,
    "modules": modules,
    "digests": digests,
    "rules": as_printed,
    "translations": as_printed,
    "anchor": as_printed,
    "devfs": as_printed,
}
"""By the first word of a section's title; the others are sorted lines."""


def listed(text: str) -> list[str]:
    """Names of interfaces, in the text that `interfaces` makes."""
    return sorted({line.partition(": ")[0] for line in text.splitlines()})
