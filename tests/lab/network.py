"""Bridges and links of the lab, made with `ip` in the namespaces that enter.sh opened.

In: names, addresses and prefixes as text. Out: links that exist and can be deleted by name.
The outer namespace is router and client of every segment, so a bridge carries the router's addresses itself.
IPv6 only. Must not know what a host does with its links, nor any product.
"""

import secrets
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Nic:
    """A host's place on a segment; without addresses the link is up and has only its link-local one."""

    segment: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """One nic as it is wired: `name` inside the host, `outer` on the bridge.

    A card keeps its MAC over reboots; with a new one, neighbours would send to the old one for half a minute.
    """

    name: str
    outer: str
    mac: str
    nic: Nic


def wire(name: str, outer: str, nic: Nic) -> Link:
    return Link(name, outer, new_mac(), nic)


def new_mac() -> str:
    return "02:" + secrets.token_bytes(5).hex(":")


def run_ip(commands: Iterable[str]) -> None:
    _run(["ip", "-batch", "-"], commands)


def prepare_router() -> None:
    _write_sysctl("net/ipv6/conf/all/forwarding", "1")
    # bridges that filter their own ports are the kernel's default, not Debian's
    _write_sysctl("net/bridge/bridge-nf-call-ip6tables", "0")


def add_bridge(name: str, router: Sequence[str], onlink: Sequence[str]) -> None:
    """Its MAC is its own: the lowest of its ports' would be another one when a host comes or goes."""
    run_ip(
        [
            f"link add {name} address {new_mac()} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            *(f"addr add {address} dev {name} nodad" for address in ("fe80::1/64", *router)),
            f"link set {name} up",
            *(f"route add {prefix} dev {name}" for prefix in onlink),
        ]
    )


def add_host_network(netns: str, links: Sequence[Link], routes: Sequence[str]) -> None:
    """What a provider sets up before a server boots: links, addresses, routes - and nothing later."""
    run_ip(
        [
            f"netns add {netns}",
            *(
                command
                for link in links
                for command in (
                    f"link add {link.outer} type veth peer name {link.name} address {link.mac} netns {netns}",
                    f"link set {link.outer} master {link.nic.segment} up",
                )
            ),
        ]
    )
    inside = [
        "link set lo up",
        *(f"addr add {address} dev {link.name} nodad" for link in links for address in link.nic.addresses),
        *(f"link set {link.name} up" for link in links),
        *(f"route add {route}" for route in routes),
    ]
    # DAD would hold the link-local addresses back for two seconds; links that the host adds later keep it
    sysctls = [f"net.ipv6.conf.{link.name}.accept_dad=0" for link in links]
    script = 'sysctl -qew net.bridge.bridge-nf-call-ip6tables=0 "$@" && exec ip -batch -'
    _run(["nsenter", f"--net=/run/netns/{netns}", "sh", "-c", script, "sh", *sysctls], inside)


def remove_host_network(netns: str, links: Sequence[Link]) -> None:
    """Deletes the links by name: those of a dying namespace would keep their names taken for a while."""
    for link in links:
        delete_link(link.outer)
    subprocess.run(["ip", "netns", "del", netns], capture_output=True, check=False)


def delete_link(name: str) -> None:
    subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)


def _run(command: Sequence[str], lines: Iterable[str]) -> None:
    text = "\n".join(lines) + "\n"
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"{done.stderr.strip()}\nwhile running:\n{text}")


def _write_sysctl(path: str, value: str) -> None:
    file = Path("/proc/sys", path)
    if file.exists():
        file.write_text(value)
