"""Who may say what on a wire: spoofed frames, tried as root in a jail and, with more power, as the host's root there.

A frame that pretends is caught nowhere: not at another jail's port, not on the uplink; no table of the host changes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .frames import (
    ALL_NODES,
    ALL_NODES_MAC,
    ARP,
    BROADCAST,
    ECHO,
    FRAGMENT,
    HOP,
    ICMP6,
    IP4,
    IP6,
    NA,
    NS,
    OPTIONS,
    QINQ,
    RA,
    REDIRECT,
    ROUTING,
    RS,
    UDP,
    Wire,
    arp,
    ether,
    fragment,
    icmp6,
    ip4,
    ip6,
    link_local,
    neighbour,
    option,
    padded,
    seen,
    six,
    tagged,
    udp4,
    udp6,
)
from .town import APP, BAPP, BSPY, BWEB, ELSEWHERE, ROOT, ROUTER4, SPY, WEB, Target, Town, ip, listening

LLDP_MAC, STP_MAC, EAPOL_MAC = "01:80:c2:00:00:0e", "01:80:c2:00:00:00", "01:80:c2:00:00:03"


@dataclass(frozen=True)
class Scene:
    """A jail that lies, the neighbour it lies about, and the gateway both use."""

    mac: str
    address: str
    victim_mac: str
    victim: str
    gateway_mac: str
    gateway: str = "fe80::1"

    @property
    def own(self) -> str:
        return link_local(self.mac)

    @property
    def everywhere(self) -> tuple[str, ...]:
        return (self.victim_mac, self.gateway_mac, ALL_NODES_MAC)


Attack = Callable[[Scene, bytes], list[bytes]]
ATTACKS: dict[str, Attack] = {}


def attack(name: str) -> Callable[[Attack], Attack]:
    def register(function: Attack) -> Attack:
        ATTACKS[name] = function
        return function

    return register


def spread(s: Scene, packet: bytes, source: str = "", kind: int = IP6) -> list[bytes]:
    """To everybody who might believe it."""
    return [ether(target, source or s.mac, kind, packet) for target in s.everywhere]


def discovery(source: str, target: str, kind: int, body: bytes, mark: bytes) -> bytes:
    """A message of neighbour discovery; the mark is an option that nobody knows (RFC 4861, 4.6: skipped)."""
    return ip6(source, target, ICMP6, icmp6(source, target, kind, body + option(253, mark)))


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


RA_BODY = struct.pack("!BBHII", 64, 0, 1800, 0, 0)


@attack("another's MAC")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, ip6(s.address, ELSEWHERE, UDP, udp6(s.address, ELSEWHERE, 80, mark)), s.victim_mac)


@attack("the gateway's MAC")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, ip6(s.address, ELSEWHERE, UDP, udp6(s.address, ELSEWHERE, 80, mark)), s.gateway_mac)


@attack("another's IPv6 source")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, ip6(s.victim, ELSEWHERE, UDP, udp6(s.victim, ELSEWHERE, 80, mark)))


@attack("an address of nobody")
def _(s: Scene, mark: bytes) -> list[bytes]:
    other = "2001:db8:dead::1"
    return spread(s, ip6(other, s.victim, UDP, udp6(other, s.victim, 80, mark)))


@attack("a foreign link-local address")
def _(s: Scene, mark: bytes) -> list[bytes]:
    frames = []
    for source in (link_local(s.victim_mac), s.gateway, "fe80::2"):
        frames += spread(s, ip6(source, ALL_NODES, ICMP6, icmp6(source, ALL_NODES, ECHO, b"\0\1\0\1" + mark)))
    return frames


@attack("an advertisement of another's address")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = neighbour(NA, s.victim, option(2, mac(s.mac)), flags=0x20)
    return spread(s, discovery(s.own, ALL_NODES, NA, body, mark)) + spread(
        s, discovery(s.address, ALL_NODES, NA, body, mark)
    )


@attack("an advertisement of the gateway's address")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = neighbour(NA, s.gateway, option(2, mac(s.mac)), flags=0xA0)
    return spread(s, discovery(s.own, ALL_NODES, NA, body, mark))


@attack("an advertisement of one's own address with another's MAC")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = neighbour(NA, s.address, option(2, mac(s.victim_mac)), flags=0x20)
    return spread(s, discovery(s.address, ALL_NODES, NA, body, mark))


@attack("an advertisement as a router")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = neighbour(NA, s.address, option(2, mac(s.mac)), flags=0xA0)
    return spread(s, discovery(s.address, ALL_NODES, NA, body, mark))


@attack("a solicitation with another's MAC")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, discovery(s.address, s.gateway, NS, neighbour(NS, s.gateway, option(1, mac(s.victim_mac))), mark))


@attack("a solicitation that claims another's address (duplicate address detection)")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, discovery("::", "ff02::1:ff00:1", NS, neighbour(NS, s.victim), mark))


@attack("a solicitation for the gateway's address as one's own")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, discovery("::", "ff02::1:ff00:1", NS, neighbour(NS, s.gateway), mark))


@attack("a router advertisement")
def _(s: Scene, mark: bytes) -> list[bytes]:
    frames = []
    for source in (s.own, s.gateway):
        frames += spread(s, discovery(source, ALL_NODES, RA, RA_BODY + option(1, mac(s.mac)), mark))
    return frames


@attack("a router solicitation")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return spread(s, discovery(s.own, "ff02::2", RS, bytes(4) + option(1, mac(s.victim_mac)), mark))


@attack("a redirect")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = bytes(4) + six(s.own) + six(ELSEWHERE)
    return [f for source in (s.own, s.gateway) for f in spread(s, discovery(source, s.victim, REDIRECT, body, mark))]


@attack("a query of a multicast router")
def _(s: Scene, mark: bytes) -> list[bytes]:
    message = icmp6(s.own, ALL_NODES, 130, struct.pack("!HH", 1, 0) + bytes(16) + mark)
    header = bytes([ICMP6, 0, 5, 2, 0, 0, 1, 0])  # router alert (RFC 2710)
    return spread(s, ip6(s.own, ALL_NODES, HOP, header + message, 1))


def evasions(s: Scene, message: bytes, source: str) -> list[bytes]:
    """RFC 7113: what hides a message from a filter that looks at the first header, or the first fragment, only."""
    to = ALL_NODES
    packets = [
        ip6(source, to, HOP, padded(ICMP6) + message),
        ip6(source, to, OPTIONS, padded(ICMP6) + message),
        ip6(source, to, ROUTING, bytes([ICMP6, 0, 4, 0, 0, 0, 0, 0]) + message),
        ip6(source, to, HOP, padded(OPTIONS) + padded(OPTIONS, 64) + padded(ICMP6, 128) + message),
        ip6(source, to, FRAGMENT, fragment(ICMP6, 0, False, message)),
        ip6(source, to, FRAGMENT, fragment(ICMP6, 0, True, message[:24], 8)),
        ip6(source, to, FRAGMENT, fragment(ICMP6, 24, False, message[24:], 8)),
        ip6(source, to, FRAGMENT, fragment(OPTIONS, 0, True, padded(ICMP6, 64), 9)),
        ip6(source, to, FRAGMENT, fragment(OPTIONS, 64, False, message, 9)),
        ip6(source, to, OPTIONS, padded(FRAGMENT) + fragment(OPTIONS, 0, True, padded(ICMP6, 16), 10)),
        ip6(source, to, OPTIONS, padded(FRAGMENT) + fragment(OPTIONS, 16, False, message, 10)),
    ]
    return [frame for packet in packets for frame in spread(s, packet)]


@attack("a router advertisement behind extension headers and in fragments")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = RA_BODY + option(1, mac(s.mac)) + option(253, mark)
    return evasions(s, icmp6(s.own, ALL_NODES, RA, body), s.own)


@attack("another's address advertised behind extension headers and in fragments")
def _(s: Scene, mark: bytes) -> list[bytes]:
    body = neighbour(NA, s.victim, option(2, mac(s.mac)), option(253, mark), flags=0x20)
    return evasions(s, icmp6(s.address, ALL_NODES, NA, body), s.address)


@attack("ARP for an address of somebody else")
def _(s: Scene, mark: bytes) -> list[bytes]:
    frames = []
    for address in ("198.51.100.7", "169.254.1.1", "192.0.2.1", "0.0.0.0"):
        for operation in (1, 2):
            body = arp(operation, s.mac, address, s.victim_mac, address) + mark
            frames += [*spread(s, body, kind=ARP), ether(BROADCAST, s.mac, ARP, body)]
    return frames


@attack("IPv4 with an address of somebody else")
def _(s: Scene, mark: bytes) -> list[bytes]:
    return [
        f for a in ("198.51.100.7", "10.0.0.1") for f in spread(s, ip4(a, "192.0.2.1", UDP, udp4(80, mark)), kind=IP4)
    ]


@attack("a VLAN tag")
def _(s: Scene, mark: bytes) -> list[bytes]:
    frames = spread(s, ip6(s.address, s.victim, UDP, udp6(s.address, s.victim, 80, mark)))
    frames += spread(s, discovery(s.own, ALL_NODES, NS, neighbour(NS, s.gateway), mark))
    stacked = [tagged(tagged(frame, 9), 7, QINQ) for frame in frames] + [
        tagged(tagged(frame, 0), 0) for frame in frames
    ]
    return [tagged(frame, vlan) for frame in frames for vlan in (0, 1, 7)] + stacked


@attack("other kinds of frames")
def _(s: Scene, mark: bytes) -> list[bytes]:
    kinds = (0x0026, 0x0842, 0x22F0, 0x8035, 0x8847, 0x8863, 0x8864, 0x888E, 0x88B5, 0x88CC, 0x88E5, 0x8906, 0x893A)
    targets = (*s.everywhere, LLDP_MAC, STP_MAC, EAPOL_MAC, BROADCAST)
    inner = b"\x11\0\0\0\0\x42\0\x57" + ip6(s.address, s.victim, UDP, udp6(s.address, s.victim, 81, mark))
    return [ether(target, s.mac, kind, inner) for kind in kinds for target in targets]


@attack("other protocols over IPv6")
def _(s: Scene, mark: bytes) -> list[bytes]:
    inside = ip6(s.victim, ELSEWHERE, UDP, udp6(s.victim, ELSEWHERE, 80, mark))
    return [
        f
        for kind in (4, 41, 47, 50, 51, 59, 89, 103, 132, 255)
        for f in spread(s, ip6(s.address, s.victim, kind, inside))
    ]


@attack("groups that a bridge never forwards")
def _(s: Scene, mark: bytes) -> list[bytes]:
    packet = ip6(s.victim, s.gateway, UDP, udp6(s.victim, s.gateway, 80, mark))
    return [
        ether(f"01:80:c2:00:00:{n:02x}", source, IP6, packet) for n in range(16) for source in (s.mac, s.victim_mac)
    ]


# ── the scenes ───────────────────────────────────────────────────────────────────────────────────────────────


def room(town: Town, jail: str) -> Path:
    return Path(f"/proc/{town.host_of(jail).pid}/root/run/netns/{jail}")


@dataclass
class Stage:
    scene: Scene
    liar: Wire
    wires: dict[str, Wire]


@contextmanager
def staged(town: Town, liar: str, victim: str) -> Iterator[Stage]:
    host = town.host_of(liar)
    nics = {jail.id: jail.nic for jail in town.fleet.hosts[town.host_name(liar)].jails}
    routed = town.host_name(liar) == "a"
    bridge, uplink = ("jails0", host._links[0].outer) if routed else ("lan0", host._links[1].outer)
    gateway_mac = (
        host.run("cat /sys/class/net/jails0/address").stdout.strip()
        if routed
        else Path("/sys/class/net/tlan/address").read_text().strip()
    )
    scene = Scene(nics[liar].mac, town.address_of(liar), nics[victim].mac, town.address_of(victim), gateway_mac)
    namespace = Path(f"/proc/{host.pid}/ns/net")
    wires = {
        "the neighbour": Wire(room(town, victim), "eth0"),
        "the uplink": Wire(None, uplink),
        "the host": Wire(namespace, bridge),
    }
    stage = Stage(scene, Wire(room(town, liar), "eth0"), wires)
    try:
        yield stage
    finally:
        for wire in (stage.liar, *wires.values()):
            wire.close()


def tables(town: Town, host: str) -> list[str]:
    """What the host believes about its neighbours."""
    script = "ip -6 neigh; ip -4 neigh; bridge fdb show | grep -v 33:33; ip -6 route"
    lines = town[host].run(script).stdout.splitlines()
    return sorted(re.sub(r" (STALE|REACHABLE|DELAY|PROBE)", "", line) for line in lines if "FAILED" not in line)


@pytest.mark.parametrize("jail", [WEB, BWEB], ids=["routed", "bridged"])
def test_a_port_of_ours_that_the_rules_do_not_name_lets_nothing_out(town: Town, jail: str) -> None:
    host = town.host_name(jail)
    port = next(j.nic.host_side for j in town.spec(host).jails if j.id == jail)
    assert town.pings(jail, ELSEWHERE)
    town[host].run(f"ip link set {port} down; ip link set {port} name stray_0; ip link set stray_0 up")
    assert not town.pings(jail, ELSEWHERE)
    town.converge(host)
    assert town.pings(jail, ELSEWHERE)


@pytest.mark.parametrize(("liar", "victim"), [(SPY, WEB), (BSPY, BWEB)], ids=["routed", "bridged"])
def test_nothing_that_pretends_leaves_the_port(town: Town, liar: str, victim: str) -> None:
    marks = {f"Mk{number:04d}".encode(): name for number, name in enumerate(ATTACKS)}
    for jail in (liar, victim):
        town.pings(ELSEWHERE, town.address_of(jail))  # so that all know each other
    before = tables(town, town.host_name(liar))
    with staged(town, liar, victim) as stage:
        s = stage.scene
        stage.liar.send(*(frame for mark, name in marks.items() for frame in ATTACKS[name](s, mark)))
        honest = ip6(s.address, ELSEWHERE, UDP, udp6(s.address, ELSEWHERE, 80, b"Honest"), 64)
        stage.liar.send(ether(s.gateway_mac, s.mac, IP6, honest))
        found = seen(stage.wires, [*marks, b"Honest"])
    arrived = found.pop(b"Honest", set())
    assert arrived, "the wires catch nothing"
    leaks = {marks[mark]: places for mark, places in found.items()}
    assert not leaks, leaks
    assert tables(town, town.host_name(liar)) == before


def test_root_in_a_jail_may_not_even_try(town: Town) -> None:
    raw = "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)'"
    for command in (
        raw,
        "python3 -c 'import socket; socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)'",
        "ip addr add 2001:db8:7a00:1::bad/128 dev eth0",
        "ip link set eth0 address 02:00:00:00:00:01",
        "ip -6 route replace default via fe80::2 dev eth0",
        "ip link add name bad type dummy",
        "echo 1 >/proc/sys/net/ipv6/conf/eth0/accept_ra",
        "nft add table inet bad",
    ):
        code, out = town.attempt(ROOT, command)
        assert code != 0, command
        assert re.search("not permitted|denied|Read-only", out), out


def test_a_cable_joins_two_jails_and_nobody_else(town: Town) -> None:
    far, near = "10.77.0.2", "10.77.0.1"
    assert town.reaches(APP, [Target(far, 81)])
    assert town.reaches(WEB, [Target(near, 81)])
    assert town.reaches(SPY, [Target(far, 80), Target(near, 80)]) == set()
    assert town.reaches(ELSEWHERE, [Target(far, 80), Target(near, 80)]) == set()
    assert "10.77" not in town["a"].run("ip -4 addr; ip -4 route").stdout
    assert far in town.inside(APP, "grep web.link /etc/hosts")
    assert near in town.inside(WEB, "grep app.link /etc/hosts")
    assert "to-web" in town.in_room(APP, "ip -br link")
    assert "to-app" in town.in_room(WEB, "ip -br link")


@pytest.mark.parametrize("jail", [APP, WEB])
def test_a_cable_survives_the_restart_of_either_jail(town: Town, jail: str) -> None:
    town["a"].run(f"systemctl restart reconciler-jail-{jail}")
    town.ready(jail)
    assert town.reaches(APP, [Target("10.77.0.2", 80)], 3)
    assert town.reaches(WEB, [Target("10.77.0.1", 80)], 3)
    assert not town.words("a")


def test_a_jail_with_ipv4_of_its_own_is_reached_over_it_by_the_same_rules(town: Town) -> None:
    """From the router's place; the host answers ARP for it on its uplink."""
    address = "198.51.100.7"
    found = town.reaches(ROUTER4, [Target(address, port, kind) for port in (80, 81, 82) for kind in ("tcp", "udp")], 3)
    assert found == {Target(address, 80), Target(address, 80, "udp")}
    assert not town.words("a")


def test_a_jails_interface_cannot_take_the_place_of_one_that_is_not_ours(town: Town) -> None:
    town["a"].run("ip link add prec_0 type bridge")
    town.edit("customers/blue/jails/spy.yaml", nic="prec_0")
    report = town.reconcile("a")
    assert not report.ready
    kind = town["a"].run("ip -d link show prec_0").stdout
    town["a"].run("ip link del prec_0")
    assert "bridge" in kind


@pytest.mark.parametrize("setting", ["isolated off", "learning on", "flood on"])
def test_a_port_that_was_opened_by_hand_is_closed_again(town: Town, setting: str) -> None:
    nic = next(jail.nic.host_side for jail in town.fleet.hosts["a"].jails if jail.id == SPY)
    town["a"].run(f"bridge link set dev {nic} {setting}")
    assert "isolated no" in town.words("a")
    town.converge("a")


def shared_segment(town: Town, **fields: int) -> None:
    """A cable from host to host, or a VLAN of it, with a jail of each on it."""
    for host, uplink in (("a", "eth1"), ("b", "eth2")):
        inner = {"name": "inner0", "uplink": uplink, **fields}
        town.edit(f"hosts/{host}.yaml", lambda spec, inner=inner: spec["switches"].append(inner))
    for jail, number, peer in (("app", 30, "bapp"), ("bapp", 31, "app")):
        interface = {"switch": "inner0", "nic": f"{jail}_in", "address": f"192.168.56.{number}/24"}
        town.edit(f"customers/red/jails/{jail}.yaml", interfaces=[interface], publish=[{"port": 80, "from": [peer]}])
    town.converge("a", "b")


def test_a_segment_joins_jails_of_two_hosts_by_their_rules_and_nobody_else(town: Town) -> None:
    shared_segment(town)
    near, far = Target("192.168.56.30", 80), Target("192.168.56.31", 80)
    assert town.reaches(APP, [far, far._replace(port=81), far._replace(protocol="udp")], 3) == {far}
    assert town.reaches(BAPP, [near, near._replace(port=81)], 3) == {near}
    assert town.reaches(SPY, [near, far]) == town.reaches(BSPY, [near, far]) == set()
    assert "app_in" in town.in_room(APP, "ip -br link")
    # whoever stands on the segment with another address, or as a router, is nobody
    town.in_room(APP, "ip addr del 192.168.56.30/24 dev app_in; ip addr add 192.168.56.99/24 dev app_in")
    assert town.reaches(APP, [far]) == set()
    assert "192.168.56.99/24" in town.words("a")
    town.converge("a")
    assert town.reaches(APP, [far], 3) == {far}


def test_an_address_on_a_segment_is_somebody_elses_elsewhere(town: Town) -> None:
    """Its customer chooses it: the reconciler's own, say, or one that a neighbour reaches."""
    shared_segment(town)
    elsewhere = "fd00:9::7"
    ip(f"addr add {elsewhere}/128 dev lo")
    town.edit("customers/red/jails/web.yaml", reach=[{"to": [f"{elsewhere}/128"], "ports": [8080]}])
    town.converge("a")
    asked = {Target(town.address_of(WEB), 80), Target(town["a"].address, 22)}
    try:
        with listening(elsewhere, 8080):
            assert town.reaches(elsewhere, asked, 3) == asked
            assert town.reaches(WEB, [Target(elsewhere, 8080)], 3)
            interface = {"switch": "inner0", "nic": "spy_in", "address": f"{elsewhere}/64"}
            town.edit("customers/blue/jails/spy.yaml", interfaces=[interface])
            town.converge("a")
            assert town.reaches(elsewhere, asked, 3) == asked
            assert town.reaches(WEB, [Target(elsewhere, 8080)], 3)
    finally:
        ip(f"addr del {elsewhere}/128 dev lo")


def test_a_further_interface_goes_without_a_trace_and_its_jail_runs_on(town: Town) -> None:
    shared_segment(town)
    before = town.inside(APP, "cat /proc/1/stat | cut -d' ' -f22")
    town.edit("customers/red/jails/app.yaml", interfaces=[])
    town.converge("a")
    assert "app_in" not in town["a"].run("ip -br link").stdout + town.in_room(APP, "ip -br link")
    assert town.inside(APP, "cat /proc/1/stat | cut -d' ' -f22") == before
    assert town.reaches(BAPP, [Target("192.168.56.30", 80)]) == set()


@pytest.mark.parametrize("harm", ["ip link set eth1 nomaster", "ip link set eth1 down", "ip link del inner0"])
def test_a_segment_that_was_cut_by_hand_is_joined_again(town: Town, harm: str) -> None:
    shared_segment(town)
    town["a"].run(harm)
    assert "switch inner0" in town.words("a")
    town.converge("a")
    assert town.reaches(APP, [Target("192.168.56.31", 80)], 3)


def test_a_segment_may_be_a_vlan_and_goes_with_its_switch(town: Town) -> None:
    if town["a"].run("ip link add probe link eth1 type vlan id 9 && ip link del probe", check=False).returncode:
        pytest.skip("this kernel has no VLANs (8021q)")
    shared_segment(town, vlan=2222)
    assert town.reaches(APP, [Target("192.168.56.31", 80)], 3)
    town["a"].run("ip link del eth1_2222")
    assert "VLAN 2222 of eth1" in town.words("a")
    town.converge("a")
    assert town.reaches(APP, [Target("192.168.56.31", 80)], 3)
    town.restore()
    town.converge("a", "b")
    links = town["a"].run("ip -br link").stdout
    assert "eth1_2222" not in links and "inner0" not in links and "eth1@" in links
