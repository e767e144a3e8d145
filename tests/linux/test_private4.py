"""Jails with private IPv4 behind their host, visitors by the host's ports, and whom the firewall counts or keeps out.

In: the town, and a third host `c` beside `a`. Out: `Quarter`, a Town with documents of its own on the same hosts.
Every "no" is asked together with a "yes" that goes the same way.

    blue: four, shy on a    10.0.2.20 and .21    far on c    10.0.2.20 as well
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import Nic
from reconciler.model import Wall

from .frames import ARP, ECHO, ICMP6, IP4, IP6, UDP, Wire, arp, ether, icmp6, ip4, ip6, link_local, seen, udp4, udp6
from .test_drift import LOOK
from .town import (
    API,
    BWEB,
    CAM,
    ELSEWHERE,
    OFFICE,
    ROUTER,
    ROUTER4,
    SPEC,
    SPY,
    WEB,
    Target,
    Town,
    ip,
    listening,
)

FOUR, SHY, FAR = "blue--four", "blue--shy", "blue--far"
A4, C4 = "192.0.2.10", "192.0.2.12"
PRIVATE, NETWORK = "10.0.2.20", "10.0.2.0/24"
VISITOR, STRANGER, MONITOR, ENEMY = "203.0.113.5", "203.0.113.6", "203.0.113.7", "203.0.113.8"
MONITOR6, ENEMY6 = "2001:db8:ffff:707::1", "2001:db8:ffff:666::1"
PEOPLE = (VISITOR, STRANGER, MONITOR, ENEMY, MONITOR6, ENEMY6)
OWN4, OWN4_PORT = "198.51.100.7", 8070
"""The one public IPv4 address of the town, and a port of its host that leads there as well."""
RATE = {"connections": 5, "seconds": 600, "block": 60}
"""A slow bucket: however slow this machine is, it does not fill up during a test."""
SHORT = 0.7
"""Seconds after which nobody comes who did not come at once."""
SWITCH = {"name": "jails0", "addresses": ["10.0.2.1/24"], "nat": True}
A, C = "hosts/a.yaml", "hosts/c.yaml"
BAD = [f"{ENEMY6}/128", f"{ENEMY}/32"]
NEAR = {
    "tables": {"monitors": [f"{MONITOR}/32", f"{MONITOR6}/128"], "bad": BAD},
    "block": ["bad"],
    "bypass": ["monitors"],
    "strict": True,
    "in": [{"ports": [81]}],
}
"""Lets in to the host itself what `four` publishes for one visitor alone."""


class Quarter(Town):
    """Has a policy for `a` and `b`, and none for `c`."""

    def restore(self) -> None:
        super().restore()
        self.edit(A, switches=[SWITCH], policy="near")
        ssh = {"address": self["c"].address, "hostKey": self["c"].host_key}
        self.write(C, {**self.document(A), "metadata": {"name": "c"}})
        self.edit(C, ssh=ssh, policy=None)
        self.write("policies/near.yaml", document("FirewallPolicy", "near", NEAR))
        self.edit("hosts/b.yaml", uplink="eth0")
        self.edit("policies/edge.yaml", lambda s: s["tables"].update(bad=BAD), block=["bad"])
        self.edit("customers/blue/jails/spy.yaml", lambda s: s["reach"][0]["ports"].extend([8080, 8081]))
        self.blue("spy", privateIpv4="10.0.2.22")
        self.edit("customers/red/jails/web.yaml", lambda s: s["publish"][0].update(hostPort=OWN4_PORT))
        for name, spec in jails().items():
            self.jail("blue", name, blueprint="tool", **spec)
        self.touched = False

    def blue(self, name: str, **fields: Any) -> None:
        self.edit(f"customers/blue/jails/{name}.yaml", **fields)


def greeting(jail: str, visitor: str) -> str:
    """What the jail's application says to somebody with this address."""
    return f"{jail.partition('--')[2]} {visitor}"


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, SPEC: spec}


def jails() -> dict[str, dict[str, Any]]:
    publish = [
        {"port": 80, "hostPort": 8080},
        {"port": 80, "protocol": "udp", "hostPort": 8080},
        {"port": 81, "hostPort": 8081, "from": [f"{VISITOR}/32"]},
        {"port": 82},
    ]
    shy = [{"port": 80, "hostPort": 8090, "rate": RATE}, {"port": 81, "hostPort": 8091}]
    reach = [{"to": ["any"], "ports": [8080]}]
    return {
        "four": {"host": "a", "privateIpv4": PRIVATE, "publish": publish, "reach": reach},
        "shy": {"host": "a", "privateIpv4": "10.0.2.21", "publish": shy},
        "far": {"host": "c", "privateIpv4": PRIVATE, "publish": publish, "reach": reach},
    }


@pytest.fixture(scope="module")
def whole_quarter(whole_town: Town, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quarter]:
    ip(*(f"addr add {address} dev lo" for address in PEOPLE))
    nic = Nic("tcam", ("2001:db8:ffff:7a::c/64", f"{C4}/24"))
    routes = (f"default via {ROUTER}", f"{CAM}:/48 dev eth0", f"default via {ROUTER4}")
    c = whole_town.lab.host("tc", {"eth0": nic}, routes)
    c.start()
    c.wait()
    repo = tmp_path_factory.mktemp("quarter") / "repo"
    quarter = Quarter(whole_town.lab, repo, whole_town.garage, whole_town.keys, {**whole_town.hosts, "c": c})
    quarter.restore()
    quarter.converge()
    for jail in (FOUR, SHY, FAR):
        quarter.ready(jail)
    yield quarter
    whole_town.converge("a", "b", adopt=True)
    c.stop()
    del whole_town.lab.hosts["tc"]
    ip(*(f"addr del {address}/{128 if ':' in address else 32} dev lo" for address in PEOPLE))


@pytest.fixture
def quarter(whole_quarter: Quarter) -> Iterator[Quarter]:
    """As its documents say, before and after."""
    yield whole_quarter
    if whole_quarter.touched:
        whole_quarter.restore()
        for name in whole_quarter.hosts:
            whole_quarter.reconcile(name, adopt=True)


def ask(source: str, target: Target, seconds: float = 3) -> str:
    """The first line that somebody outside hears."""
    where = (target.address, target.port)
    with socket.create_connection(where, seconds, (source, 0)) as s, s.makefile() as lines:
        return lines.readline().strip()


def silent(source: str, target: Target) -> bool:
    try:
        ask(source, target, SHORT)
    except TimeoutError:
        return True
    return False


def ask_from(quarter: Quarter, jail: str, target: Target) -> str:
    """What a jail hears."""
    script = (
        "import socket,sys; s=socket.create_connection((sys.argv[1], int(sys.argv[2])), 3); print(s.recv(99).decode())"
    )
    return quarter.inside(jail, f"python3 -c '{script}' {target.address} {target.port}").strip()


@contextmanager
def route_to_privacy(host4: str) -> Iterator[None]:
    """The router of a neighbour who knows, or guesses, what is behind the host."""
    ip(f"route add {NETWORK} via {host4}")
    try:
        yield
    finally:
        ip(f"route del {NETWORK}")


# ── the way out ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_private_jail_reaches_a_server_outside_which_sees_the_hosts_own_address(quarter: Quarter) -> None:
    with listening(ROUTER4, 8080):
        assert ask_from(quarter, FOUR, Target(ROUTER4, 8080)) == A4


def test_a_private_jail_reaches_only_what_its_list_says(quarter: Quarter) -> None:
    asked = {Target(ROUTER4, 8080), Target(ROUTER4, 8083)}
    with listening(ROUTER4, 8080), listening(ROUTER4, 8083):
        assert quarter.reaches(FOUR, asked) == {Target(ROUTER4, 8080)}
        assert quarter.reaches(SHY, asked, SHORT) == set()


def test_without_nat_a_private_address_leaves_the_host_nowhere(quarter: Quarter) -> None:
    """Not even to somebody who would know the way back."""
    quarter.edit(A, switches=[{**SWITCH, "nat": False}])
    quarter.converge("a")
    with listening("::", 8080), route_to_privacy(A4):
        asked = {Target(ROUTER4, 8080), Target(ROUTER, 8080), Target("10.0.2.21", 81)}
        assert quarter.reaches(SPY, asked) == asked - {Target(ROUTER4, 8080)}
        assert ask(VISITOR, Target(A4, 8080)) == greeting(FOUR, VISITOR)


# ── the way in ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_private_address_is_neither_announced_nor_reached_from_outside(quarter: Quarter) -> None:
    assert PRIVATE not in quarter["a"].run("ip neigh show proxy").stdout
    known = {socket.inet_aton(address): address for address in (PRIVATE, OWN4)}
    with wire(None, "tcam") as outside:
        router, host = router_mac(), host_mac(quarter)
        for address in known.values():
            outside.send(ether(host, router, ARP, arp(1, router, ROUTER4, "00:00:00:00:00:00", address)))
        assert [known[answer] for answer in seen({"": outside}, known)] == [OWN4]
    with route_to_privacy(A4):
        inside = {Target(PRIVATE, 80), Target(PRIVATE, 82), Target(PRIVATE, 80, "udp")}
        assert quarter.reaches(VISITOR, {*inside, Target(A4, 8080)}) == {Target(A4, 8080)}
        assert quarter.reaches(SPY, inside) == inside


def router_mac() -> str:
    return Path("/sys/class/net/tcam/address").read_text().strip()


def host_mac(quarter: Quarter) -> str:
    return quarter["a"].run("cat /sys/class/net/eth0/address").stdout.strip()


@contextmanager
def wire(namespace: Path | None, interface: str) -> Iterator[Wire]:
    opened = Wire(namespace, interface)
    try:
        yield opened
    finally:
        opened.close()


def test_a_visitor_comes_by_a_port_of_the_host_with_an_address_of_his_own(quarter: Quarter) -> None:
    assert ask(VISITOR, Target(A4, 8080)) == greeting(FOUR, VISITOR)
    asked = {Target(A4, port, kind) for port in (22, 80, 81, 82, 8080, 8081, 8083) for kind in ("tcp", "udp")}
    common = {Target(A4, 22), Target(A4, 8080), Target(A4, 8080, "udp")}
    assert quarter.reaches(VISITOR, asked) == common | {Target(A4, 8081)}
    assert quarter.reaches(STRANGER, asked) == common


def test_a_jail_of_the_same_host_does_not_come_by_its_ports(quarter: Quarter) -> None:
    asked = {Target(address, port) for address in (A4, "10.0.2.1") for port in (22, 8080, 8081)}
    assert quarter.reaches(SPY, asked | {Target(PRIVATE, 80)}) == {Target(PRIVATE, 80)}


def test_the_hosts_own_policy_neither_opens_nor_closes_a_jails_port(quarter: Quarter) -> None:
    """The policy of `a` names one of them; `c` has none."""
    for host, policy in (("a", True), ("c", False)):
        assert ("in" in {part.direction for part in quarter.spec(host).parts if isinstance(part, Wall)}) == policy
    asked = {Target(address, port) for address in (A4, C4) for port in (8080, 8081)}
    assert quarter.reaches(VISITOR, asked) == asked
    assert quarter.reaches(STRANGER, asked) == {Target(A4, 8080), Target(C4, 8080)}


def test_a_host_that_blocks_link_local_addresses_hears_its_neighbours_still(quarter: Quarter) -> None:
    """They are in many a list of addresses that nobody has."""
    quarter.edit("policies/near.yaml", lambda spec: spec["tables"]["bad"].append("fe80::/10"))
    quarter.converge("a")
    quarter["a"].run("ip -6 neigh flush dev eth0")
    router = link_local(Path("/sys/class/net/tcam/address").read_text().strip())
    knock = f"echo >/dev/udp/{router}%eth0/9; sleep 0.5; ip -6 neigh show {router}"
    assert "lladdr" in quarter["a"].run(knock).stdout
    assert quarter.reaches(OFFICE, [Target(quarter.address_of(SHY), 81)], 3)


def test_a_port_of_the_host_leads_to_a_jail_with_ipv4_of_its_own_as_well(quarter: Quarter) -> None:
    asked = {Target(A4, OWN4_PORT), Target(OWN4, 80)}
    assert quarter.reaches(VISITOR, asked) == asked


def test_two_hosts_have_jails_with_the_same_private_address(quarter: Quarter) -> None:
    assert ask(VISITOR, Target(A4, 8080)) == greeting(FOUR, VISITOR)
    works(quarter)


def works(quarter: Quarter) -> None:
    """The third host, both ways."""
    assert ask(VISITOR, Target(C4, 8080)) == greeting(FAR, VISITOR)
    with listening(ROUTER4, 8080):
        assert ask_from(quarter, FAR, Target(ROUTER4, 8080)) == C4
    assert not quarter.words("c")


@pytest.mark.parametrize("chain", ["leaving", "arriving"])
def test_a_chain_of_translations_that_was_deleted_by_hand_is_found_and_mended(quarter: Quarter, chain: str) -> None:
    quarter["c"].run(f"nft delete chain inet reconciler {chain}")
    assert "firewall rules: kernel changed by hand" in quarter.words("c")
    quarter.converge("c")
    works(quarter)


def test_translations_are_there_again_after_a_restart_of_the_host(quarter: Quarter) -> None:
    quarter["c"].restart()
    quarter.ready(FAR)
    works(quarter)


def plain(quarter: Quarter) -> str:
    """What the third host looks like when it has nothing of all that this module is about."""
    quarter.edit(C, switches=[{"name": "jails0"}], policy=None)
    quarter.blue("far", privateIpv4=None, publish=[{"port": 80}])
    quarter.converge("c")
    return quarter["c"].run(LOOK).stdout


def test_nothing_is_left_of_translations_and_rates_that_are_gone_from_the_documents(quarter: Quarter) -> None:
    without = plain(quarter)
    assert not [word for word in ("10.0.2", "masquerade", "dnat", "limited", "outside") if word in without]
    quarter.restore()
    quarter.blue("far", publish=[{"port": 80, "hostPort": 8080, "rate": RATE}])
    quarter.edit(C, policy="near")
    quarter.converge("c")
    assert ask(VISITOR, Target(C4, 8080)) == greeting(FAR, VISITOR)
    assert plain(quarter) == without


# ── whom a rate cuts off ─────────────────────────────────────────────────────────────────────────────────────


class Crowd:
    """A jail's two ports as people of one family see them, and what the kernel keeps of them."""

    def __init__(self, quarter: Quarter, family: str) -> None:
        self.host, self.family = quarter["a"], family
        six, shy = family == "ip6", quarter.address_of(SHY)
        self.counted, self.other = (Target(shy, 80), Target(shy, 81)) if six else (Target(A4, 8090), Target(A4, 8091))
        self.neighbour = Target(quarter.address_of(WEB), 80) if six else Target(A4, 8080)
        self.often, self.seldom, self.monitor = (OFFICE, ELSEWHERE, MONITOR6) if six else (VISITOR, STRANGER, MONITOR)
        self.jail = shy if six else "10.0.2.21"

    def sets(self) -> dict[str, Any]:
        listed = json.loads(self.host.run("nft -j list sets table inet reconciler").stdout)["nftables"]
        return {entry["set"]["name"]: entry["set"] for entry in listed if "set" in entry}

    def limited(self) -> list[dict[str, Any]]:
        return [entry["elem"] for entry in self.sets()[f"limited_{self.family}"].get("elem", ())]

    def forget(self) -> None:
        """As when their time is over."""
        for name in self.sets():
            self.host.run(f"nft flush set inet reconciler {name}")

    def exhaust(self) -> None:
        for _ in range(RATE["connections"]):
            assert ask(self.often, self.counted) == greeting(SHY, self.often)
        assert silent(self.often, self.counted)


@pytest.fixture(params=["ip6", "ip"])
def crowd(quarter: Quarter, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    crowd = Crowd(quarter, request.param)
    yield crowd
    crowd.forget()


def test_who_connects_too_often_is_cut_off_from_the_jail_for_the_time_asked(quarter: Quarter, crowd: Crowd) -> None:
    with socket.create_connection((crowd.other.address, crowd.other.port), 3, (crowd.often, 0)) as held:
        assert held.recv(99)
        crowd.exhaust()
        assert silent(crowd.often, crowd.other)
        assert ask(crowd.seldom, crowd.counted) == greeting(SHY, crowd.seldom)
        assert ask(crowd.often, crowd.neighbour)
        assert not quarter.converge("a")["a"].done
        assert [(e["val"]["concat"], e["timeout"]) for e in crowd.limited()] == [([crowd.often, crowd.jail], 60)]
        held.sendall(b"still here\n")
        held.settimeout(0.3)
        with pytest.raises(TimeoutError):
            held.recv(99)
        crowd.forget()
        assert ask(crowd.often, crowd.counted) == greeting(SHY, crowd.often)
        held.settimeout(8)
        assert held.recv(99) == b"still here\n"


def test_who_bypasses_rates_is_never_cut_off(crowd: Crowd) -> None:
    for _ in range(2 * RATE["connections"]):
        assert ask(crowd.monitor, crowd.counted) == greeting(SHY, crowd.monitor)
    assert not crowd.limited()


def test_a_bucket_is_kept_as_long_as_it_takes_to_be_full_again(crowd: Crowd) -> None:
    assert ask(crowd.seldom, crowd.counted)
    buckets = [s for name, s in crowd.sets().items() if name.startswith("rate_") and name.endswith(f"_{crowd.family}")]
    assert [(s["timeout"], len(s["elem"])) for s in buckets] == [(RATE["seconds"], 1)]


# ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_blocked_source_reaches_neither_the_host_nor_its_jails(quarter: Quarter) -> None:
    six = {Target(quarter["a"].address, 22), Target(quarter.address_of(WEB), 80)}
    four = {Target(A4, 22), Target(A4, 8080), Target(OWN4, 80)}
    assert quarter.reaches(OFFICE, six) == six
    assert quarter.reaches(ENEMY6, six, SHORT) == set()
    assert quarter.reaches(VISITOR, four) == four
    assert quarter.reaches(ENEMY, four, SHORT) == set()


def test_a_blocked_source_reaches_neither_a_bridged_host_nor_its_jails(quarter: Quarter) -> None:
    asked = {Target(quarter["b"].address, 22), Target(quarter.address_of(BWEB), 80)}
    assert quarter.reaches(OFFICE, asked) == asked
    assert quarter.reaches(ENEMY6, asked, SHORT) == set()


def test_strict_drops_who_comes_in_where_the_way_back_does_not_lead(quarter: Quarter) -> None:
    true = {b"Honest6", b"Honest4"}
    assert spoofed(quarter) == true
    quarter["a"].run("nft flush chain inet reconciler outside")
    assert spoofed(quarter) == true | {b"False6", b"Echo6", b"False4", b"Private4"}
    quarter.converge("a")


def test_neighbours_find_each_other_past_a_strict_door(quarter: Quarter) -> None:
    quarter["a"].run("ip neigh flush dev eth0; ip neigh flush dev jails0")
    ip("neigh flush dev tcam")
    assert quarter.reaches(OFFICE, {Target(quarter.address_of(WEB), 80)}, 4)
    assert quarter.reaches(VISITOR, {Target(A4, 8080)}, 4)
    assert quarter.pings(OFFICE, quarter.address_of(WEB))


def spoofed(quarter: Quarter) -> set[bytes]:
    """Which marks arrive at a jail, from sources true and false."""
    host, web = quarter["a"], quarter.address_of(WEB)
    sources = {b"Honest6": ELSEWHERE, b"False6": "2001:db8:5::1"}
    sources4 = {b"Honest4": VISITOR, b"False4": "203.0.114.1", b"Private4": "10.0.2.99"}
    packets = [(IP6, ip6(s, web, UDP, udp6(s, web, 80, mark), 64)) for mark, s in sources.items()]
    packets += [(IP4, ip4(s, OWN4, UDP, udp4(80, mark))) for mark, s in sources4.items()]
    echo = icmp6("2001:db8:5::1", web, ECHO, b"\0\1\0\1Echo6")
    packets.append((IP6, ip6("2001:db8:5::1", web, ICMP6, echo, 64)))
    host.run("ip -6 route add 2001:db8:5::/48 dev lo; ip route add 203.0.114.0/24 dev lo")
    try:
        with wire(Path(f"/proc/{host.pid}/root/run/netns/{WEB}"), "eth0") as inside, wire(None, "tcam") as outside:
            outside.send(*(ether(host_mac(quarter), router_mac(), kind, packet) for kind, packet in packets))
            return set(seen({"": inside}, [*sources, *sources4, b"Echo6"]))
    finally:
        host.run("ip -6 route del 2001:db8:5::/48 dev lo; ip route del 203.0.114.0/24 dev lo")
