"""A host, its jails and what is around it, as `tests/cases/pf/` writes them; and which interfaces a packet passes.

In: the lines of a case. Out: a HostSpec, questions (who sends what to whom), and what a firewall says to each, at every
interface on the way there and back. The ways are those of if_bridge(4) with the sysctls that the rules ask for. Must
not know what the rules look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from fake.specs import jail
from fake.specs import spec as host_spec
from reconciler.model import HostSpec, Jail, Nic, Outside, Part, Rate, Redirect, Rule, Switch, Translation, Wall

from .pf import Firewall, Packet, Ruleset

UPLINK = "igb0"
INTERFACES = {UPLINK: ("2001:db8:a::1", "192.0.2.254"), "sw0": ("169.254.1.1", "10.0.2.1"), "igb1": ("2001:db8:b::1",)}
HOST = tuple(address for listed in INTERFACES.values() for address in listed)
ELSEWHERE = ("2001:db8:ffff::1", "198.51.100.1")
Hop = tuple[str, str]

SWITCH = re.compile(r"switch (\S+) (routed|bridged)(?: to (\S+))?")
JAIL = re.compile(r"jail (\S+) +port (\S+) +on (\S+) at (.+?)(?: private (\S+))?")
ALSO = re.compile(r"also (\S+) +port (\S+) +on (\S+) at (\S+)")
LET = re.compile(r"let (\S+) +(in|out) +(tcp|udp) (any|\d+) (?:from|to) (.+?)(?: rate (\d+)/(\d+))?")
OUTSIDE = re.compile(r"outside (\S+)(?: block (\S+))?(?: bypass (\S+))?( strict)?")
NAT = re.compile(r"nat (\S+) (.+)")
REDIRECT = re.compile(r"redirect (\S+) (tcp|udp) (\d+) to (\S+) at (\S+) (\d+)")
QUESTION = re.compile(
    r"(?P<sender>\S+)(?: as (?P<source>\S+))? -> (?P<receiver>\S+)(?: at (?P<destination>\S+))?"
    r" (?P<protocol>tcp|udp|icmp6|icmp) (?P<number>\d+)(?: from port (?P<port>\d+))?(?: flags (?P<flags>[SAR]+))?"
    r"(?P<options> with options)?(?: with (?P<failed>no-route|urpf-failed))?(?: by (?P<nic>\S+?))?"
    r"(?: (?P<times>\d+) times)?(?P<way> directly| past its port)?: "
    r"(?:passes(?: as (?P<seen>\S+))?(?: to (?P<reached>\S+) (?P<reached_port>\d+))?"
    r"|stops at (?P<stop>\S+ (?:in|out)(?:, coming back)?))"
)


def spec(lines: list[str]) -> HostSpec:
    parts = [
        part(line, sum(seen.startswith("jail ") for seen in lines[: i + 1]))
        for i, line in enumerate(lines)
        if not ALSO.fullmatch(line)
    ]
    further = [found for line in lines if (found := ALSO.fullmatch(line))]
    return host_spec(*(with_more(part, further) for part in parts), switches=())


def with_more(part: Part, further: list[re.Match[str]]) -> Part:
    """A jail with its interfaces on segments."""
    mine = [found for found in further if isinstance(part, Jail) and found[1] == part.id]
    more = [Nic(f[2], f[3], f"02:00:00:00:01:{i:02x}", (f"{f[4]}/24",), ()) for i, f in enumerate(mine)]
    return replace(part, more=tuple(more)) if isinstance(part, Jail) else part


def part(line: str, number: int) -> Part:
    if line.startswith("wall "):
        return Wall(line.removeprefix("wall "))  # type: ignore[arg-type]
    if found := SWITCH.fullmatch(line):
        return Switch(found[1], found[2] == "routed", "" if found[2] == "routed" else found[3] or UPLINK)
    if found := JAIL.fullmatch(line):
        return jail(found[1], nic=wiring(found, number))
    if found := LET.fullmatch(line):
        return permission(found)
    if found := OUTSIDE.fullmatch(line):
        blocked, uncounted = (tuple([prefix] if prefix else []) for prefix in (found[2], found[3]))
        return Outside(found[1], blocked, uncounted, bool(found[4]))
    if found := NAT.fullmatch(line):
        return Translation(found[1], tuple(found[2].split()))
    if found := REDIRECT.fullmatch(line):
        return Redirect(found[1], found[2], int(found[3]), found[4], found[5], int(found[6]))  # type: ignore[arg-type]
    raise ValueError(line)


def wiring(found: re.Match[str], number: int) -> Nic:
    """The MAC of the second jail ends in 02, and so its link-local address is fe80::ff:fe00:2."""
    private = f"{found[5]}/32" if found[5] else ""
    lengths = tuple(f"{address}/{128 if ':' in address else 32}" for address in found[4].split())
    addresses = (*lengths, *([private] if private else []))
    return Nic(found[2], found[3], f"02:00:00:00:00:{number:02x}", addresses, ("fe80::1",), private=private)


def permission(found: re.Match[str]) -> Rule:
    subject, ports = "" if found[1] == "host" else found[1], () if found[4] == "any" else (int(found[4]),)
    peers = () if found[5] == "anybody" else tuple(found[5].split())
    rate = Rate(int(found[6]), int(found[7]), 180) if found[6] else None
    return Rule(subject, found[2], peers, found[3], ports, found[0], rate)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Question:
    line: str
    sender: str
    receiver: str
    packet: Packet
    way: str
    stop: str
    seen: tuple[str, str, int]
    """How it arrives: from where, where to, at which port."""
    failed: str = ""
    nic: str = UPLINK
    times: int = 1


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
    seen = (found["seen"] or source, found["reached"] or destination, int(found["reached_port"] or packet.port))
    way, stop, times = (found["way"] or "").strip(), found["stop"] or "", int(found["times"] or 1)
    return Question(
        line, sender, receiver, packet, way, stop, seen, found["failed"] or "", found["nic"] or UPLINK, times
    )


def numbers(found: re.Match[str]) -> dict[str, Any]:
    number, options = int(found["number"]), bool(found["options"])
    if found["protocol"].startswith("icmp"):
        return {"icmp": number, "options": options}
    port = int(found["port"] or 50000)
    return {"port": number, "source_port": port, "flags": found["flags"] or "S", "options": options}


def address_of(host: HostSpec, who: str, version: int) -> str:
    mine = {"host": HOST, "elsewhere": ELSEWHERE} | {
        j.id: tuple(a.partition("/")[0] for a in j.nic.addresses) for j in host.jails
    }
    return next(address for address in mine[who] if (":" in address) == (version == 6))


# ── ways ─────────────────────────────────────────────────────────────────────────────────────────────────────


def way(host: HostSpec, sender: str, receiver: str, how: str = "", uplink: str = UPLINK) -> Iterator[Hop]:
    """(interface, direction) for each time that pf is asked."""
    jails = {jail.id: jail.nic for jail in host.jails}
    switches = {part.name: part for part in host.parts if isinstance(part, Switch)}
    first = next(iter(switches))
    routed = not switches or switches[first].routed
    if how == "directly":
        yield from ((jails[sender].host_side, "in"), (jails[receiver].host_side, "out"))
        return
    if sender in jails and how != "past its port":
        yield jails[sender].host_side, "in"
    if sender == "elsewhere":
        yield uplink, "in"
    if routed:
        yield from ((jails[sender].switch, "in") for _ in range(sender in jails))
        yield from leave_routed(jails, receiver, uplink)
    else:
        yield from leave_bridged(jails, sender, receiver, jails[sender].switch if sender in jails else first)


def leave_routed(jails: dict[str, Nic], receiver: str, uplink: str) -> Iterator[Hop]:
    if receiver in jails:
        yield jails[receiver].switch, "out"
    elif receiver == "elsewhere":
        yield uplink, "out"


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


# ── packets on their ways ────────────────────────────────────────────────────────────────────────────────────


class Stopped(Exception):
    """Says where, or what is wrong with what arrived."""


def stop(host: HostSpec, ruleset: Ruleset, asked: Question) -> str:
    """Where the packet, or its answer, ends; "" when both get through. Of many connections only the last may end."""
    firewall = Firewall(ruleset, INTERFACES)
    for number in range(1, asked.times + 1):
        try:
            exchange(firewall, host, asked, replace(asked.packet, source_port=asked.packet.source_port + number - 1))
        except Stopped as stopped:
            return str(stopped) if number == asked.times else f"{stopped}, number {number}"
    return ""


def exchange(firewall: Firewall, host: HostSpec, asked: Question, packet: Packet) -> None:
    """There, back, and there again: a connection of TCP is one by its third packet."""
    there = list(way(host, asked.sender, asked.receiver, asked.way, asked.nic))
    arrived = through(firewall, there, packet, asked.failed)
    if not asked.stop and (arrived.source, arrived.destination, arrived.port) != asked.seen:
        raise Stopped(f"arrives from {arrived.source} at {arrived.destination} {arrived.port}")
    if (packet.protocol not in ("tcp", "udp") and packet.icmp not in (8, 128)) or not set(packet.flags) <= {"S"}:
        return
    try:
        back = through(firewall, way(host, asked.receiver, asked.sender, asked.way, asked.nic), arrived.answer)
    except Stopped as stopped:
        raise Stopped(f"{stopped}, coming back") from stopped
    if back.connection != packet.answer.connection:
        raise Stopped(f"answered by {back.source} {back.source_port}")
    if packet.protocol == "tcp":
        through(firewall, there, replace(packet, flags="A"))


def through(firewall: Firewall, hops: Iterable[Hop], packet: Packet, failed: str = "") -> Packet:
    for interface, direction in hops:
        passed = firewall.passed(direction, interface, packet, failed if direction == "in" else "")
        if passed is None:
            raise Stopped(f"{interface} {direction}")
        packet = passed
    return packet
