"""A host, its jails and what is around it, as `tests/cases/pf/` writes them; and which interfaces a packet passes.

In: the lines of a case. Out: a HostSpec, questions (who sends what to whom), and what a firewall says to each, at every
interface on the way there and back. The ways are those of if_bridge(4) with the sysctls that the rules ask for. Must
not know what the rules look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fake.specs import jail
from fake.specs import spec as host_spec
from reconciler.model import HostSpec, Nic, Part, Rule, Switch, Wall

from .pf import Firewall, Packet, Ruleset

UPLINK = "igb0"
HOST = ("2001:db8:a::1", "192.0.2.254", "169.254.1.1")
ELSEWHERE = ("2001:db8:ffff::1", "198.51.100.1")
Hop = tuple[str, str]

SWITCH = re.compile(r"switch (\S+) (routed|bridged)")
JAIL = re.compile(r"jail (\S+) +port (\S+) +on (\S+) at (.+)")
LET = re.compile(r"let (\S+) +(in|out) +(tcp|udp) (any|\d+) (?:from|to) (.+)")
QUESTION = re.compile(
    r"(?P<sender>\S+)(?: as (?P<source>\S+))? -> (?P<receiver>\S+)(?: at (?P<destination>\S+))?"
    r" (?P<protocol>tcp|udp|icmp6|icmp) (?P<number>\d+)(?: flags (?P<flags>[SAR]+))?(?P<options> with options)?"
    r"(?P<way> directly| past its port)?: (?:passes|stops at (?P<stop>\S+ (?:in|out)))"
)


def spec(lines: list[str]) -> HostSpec:
    parts = [part(line, sum(seen.startswith("jail ") for seen in lines[: i + 1])) for i, line in enumerate(lines)]
    return host_spec(*parts, switches=())


def part(line: str, number: int) -> Part:
    """The MAC of the second jail ends in 02, and so its link-local address is fe80::ff:fe00:2."""
    if line.startswith("wall "):
        return Wall(line.removeprefix("wall "))  # type: ignore[arg-type]
    if found := SWITCH.fullmatch(line):
        return Switch(found[1], found[2] == "routed", "" if found[2] == "routed" else UPLINK)
    if found := JAIL.fullmatch(line):
        lengths = tuple(f"{address}/{128 if ':' in address else 32}" for address in found[4].split())
        return jail(found[1], nic=Nic(found[2], found[3], f"02:00:00:00:00:{number:02x}", lengths, ("fe80::1",)))
    if found := LET.fullmatch(line):
        subject, ports = "" if found[1] == "host" else found[1], () if found[4] == "any" else (int(found[4]),)
        peers = () if found[5] == "anybody" else tuple(found[5].split())
        return Rule(subject, found[2], peers, found[3], ports, line)  # type: ignore[arg-type]
    raise ValueError(line)


@dataclass(frozen=True)
class Question:
    line: str
    sender: str
    receiver: str
    packet: Packet
    way: str
    stop: str


def question(host: HostSpec, line: str) -> Question:
    found = QUESTION.fullmatch(line)
    if not found:
        raise ValueError(line)
    sender, receiver, version = found["sender"], found["receiver"], 6
    for address in (found["source"], found["destination"]):
        version = 4 if address and ":" not in address else version
    source = found["source"] or address_of(host, sender, version)
    destination = found["destination"] or address_of(host, receiver, version)
    packet = Packet(
        {"icmp6": "ipv6-icmp"}.get(found["protocol"], found["protocol"]), source, destination, **numbers(found)
    )
    return Question(line, sender, receiver, packet, (found["way"] or "").strip(), found["stop"] or "")


def numbers(found: re.Match[str]) -> dict[str, Any]:
    number, options = int(found["number"]), bool(found["options"])
    if found["protocol"].startswith("icmp"):
        return {"icmp": number, "options": options}
    return {"port": number, "source_port": 50000, "flags": found["flags"] or "S", "options": options}


def address_of(host: HostSpec, who: str, version: int) -> str:
    mine = {"host": HOST, "elsewhere": ELSEWHERE} | {
        j.id: tuple(a[:-4] if ":" in a else a[:-3] for a in j.nic.addresses) for j in host.jails
    }
    return next(address for address in mine[who] if (":" in address) == (version == 6))


# ── ways ─────────────────────────────────────────────────────────────────────────────────────────────────────


def way(host: HostSpec, sender: str, receiver: str, how: str = "") -> Iterator[Hop]:
    """(interface, direction) for each time that pf is asked."""
    jails = {jail.id: jail.nic for jail in host.jails}
    switches = {part.name: part for part in host.parts if isinstance(part, Switch)}
    routed = all(switch.routed for switch in switches.values())
    first = next(iter(switches))
    if how == "directly":
        yield from ((jails[sender].host_side, "in"), (jails[receiver].host_side, "out"))
        return
    if sender in jails and how != "past its port":
        yield jails[sender].host_side, "in"
    if sender == "elsewhere":
        yield UPLINK, "in"
    if routed:
        yield from ((jails[sender].switch, "in") for _ in range(sender in jails))
        yield from leave_routed(jails, receiver)
    else:
        yield from leave_bridged(jails, sender, receiver, jails[sender].switch if sender in jails else first)


def leave_routed(jails: dict[str, Nic], receiver: str) -> Iterator[Hop]:
    if receiver in jails:
        yield jails[receiver].switch, "out"
    elif receiver == "elsewhere":
        yield UPLINK, "out"


def leave_bridged(jails: dict[str, Nic], sender: str, receiver: str, switch: str) -> Iterator[Hop]:
    """The host speaks by its switch; jails, who are private members, see each other by way of the router."""
    if sender == "host":
        yield switch, "out"
    elif receiver == "host":
        yield switch, "in"
    elif receiver == "elsewhere":
        yield UPLINK, "out"
    else:
        if sender in jails:
            yield from ((UPLINK, "out"), (UPLINK, "in"))
        yield jails[receiver].host_side, "out"


def stop(host: HostSpec, ruleset: Ruleset, asked: Question) -> str:
    """Where the packet ends, or what it is answered; "" when both get through."""
    firewall = Firewall(ruleset, HOST)
    there = way(host, asked.sender, asked.receiver, asked.way)
    found = through(firewall, there, asked.packet)
    if found or asked.packet.protocol not in ("tcp", "udp") or not set(asked.packet.flags) <= {"S"}:
        return found
    found = through(firewall, way(host, asked.receiver, asked.sender, asked.way), asked.packet.answer)
    return f"{found}, coming back" if found else ""


def through(firewall: Firewall, hops: Iterator[Hop], packet: Packet) -> str:
    for interface, direction in hops:
        if not firewall.passes(direction, interface, packet):
            return f"{interface} {direction}"
    return ""
