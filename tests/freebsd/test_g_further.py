"""What a jail may have beside its IPv6 address: a way out and in by IPv4, a segment, limits, a grant, a tunnel.

A third jail has all of it. The uplink and the segment are cables made by hand; a visitor who knows IPv4 alone is at the
other end of both. When the jail has left, so have they, and the host is as it was before.

    visitor 198.51.100.2  ── outside0, the uplink: 198.51.100.1:8480 → 10.99.0.20:8080 ──  lab: shop
            192.168.77.1  ── segment0 ── rcseg0 ──────────── 192.168.77.20 ──────────────
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyrage  # type: ignore[import-untyped]
import ryaml

from reconciler.age import seal

from .company import (
    BLUEPRINT,
    DB_JAIL,
    GATEWAY,
    HOME,
    HOST,
    LIMITS,
    NAME,
    SWITCH,
    WEB_JAIL,
    Company,
    disrupted,
    document,
    touched,
    words,
)
from .host import Host
from .look import difference
from .sweep import MARK
from .test_d_changes import jid, starts
from .traffic import HAND, opens, page, pings

SHOP, SHOP_NIC, SHOP_SEGMENT = "lab__shop", "rc_shop0", "shop_seg"
PRIVATE, ON_SEGMENT = "10.99.0.20", "192.168.77.20"
DOOR, HOST_PORT = "198.51.100.1", 8480
OUTSIDE, VISITOR = "outside", "198.51.100.2"
SEGMENT = "rcseg0"
SWITCHES = [
    {"name": SWITCH, "addresses": [f"{GATEWAY}/64", "10.99.0.1/24"], "nat": True},
    {"name": SEGMENT, "uplink": "segment0"},
]
SPEC = {
    "blueprint": "page",
    "host": NAME,
    "nic": SHOP_NIC,
    "privateIpv4": PRIVATE,
    "publish": [{"port": 8080, "hostPort": HOST_PORT}],
    "reach": [{"to": [f"{VISITOR}/32"], "ports": [7777]}],
    "interfaces": [{"switch": SEGMENT, "nic": SHOP_SEGMENT, "address": f"{ON_SEGMENT}/24"}],
    "limits": LIMITS,
}
MAKE = f"""
set -e
pair() {{
    side=$(ifconfig epair create)
    ifconfig $side name $1 >/dev/null
    ifconfig ${{side%a}}b name $2 >/dev/null
}}
pair outside0 outside1
pair segment0 segment1
jail -c name={OUTSIDE} path=/ host.hostname=outside.example vnet vnet.interface=outside1 persist allow.raw_sockets
ifconfig segment1 vnet {OUTSIDE}
ifconfig outside0 inet {DOOR}/24
ifconfig outside0 up
jexec {OUTSIDE} ifconfig lo0 up
jexec {OUTSIDE} ifconfig outside1 inet {VISITOR}/24
jexec {OUTSIDE} ifconfig outside1 up
jexec {OUTSIDE} ifconfig segment1 inet 192.168.77.1/24
jexec {OUTSIDE} ifconfig segment1 up
# somebody who tries the private address itself
jexec {OUTSIDE} route -n add -inet 10.99.0.0/24 {DOOR}
"""
UNMAKE = f"""
set -e
for nic in outside1 segment1; do ifconfig $nic -vnet {OUTSIDE}; done
jail -r {OUTSIDE}
ifconfig outside0 destroy
ifconfig segment0 destroy
# the reconciler leaves a value that it needs no longer as it is until the next boot
sysctl "$(grep '^net.inet.ip.forwarding=' {MARK}/sysctls)"
"""


@contextmanager
def listening(host: Host, jail: str, port: int, says: str) -> Iterator[None]:
    """By IPv4: the application listens on IPv6 alone."""
    nc = f"nc -4 -N -l {port}"
    again = f"while :; do echo {says} | timeout 600 {nc} || break; done"
    host.run(f"jexec {jail} sh -c '{again}' >/dev/null 2>&1 &")
    try:
        yield
    finally:
        host.run(f"pkill -j $(jls -j {jail} jid) -f '{nc}'; :", check=False)


def test_a_jail_moves_in_that_has_more_than_an_ipv6_address(host: Host, town: Company, settled: dict[str, str]) -> None:
    host.run(MAKE)
    before = starts(host, "lab--web"), jid(host, WEB_JAIL), jid(host, DB_JAIL)
    town.amend(HOST, uplink="outside0", switches=SWITCHES)
    town.jail("shop", SPEC)
    planned = town.settle("A shop for those who know IPv4 alone")
    assert "create jail lab--shop" in words(planned), words(planned)
    assert disrupted(planned) == set() and touched(planned) == {"", "lab--shop"}, str(planned)
    assert (starts(host, "lab--web"), jid(host, WEB_JAIL), jid(host, DB_JAIL)) == before
    switch, inside = host.run(f"ifconfig {SEGMENT}").out, host.look()[f"inside {SHOP}"]
    assert "member: segment0 " in switch and f"member: {SHOP_SEGMENT} " in switch, switch
    assert f"inet {PRIVATE} " in inside and f"inet {ON_SEGMENT} " in inside, inside
    town.nothing_to_do()


def test_a_visitor_comes_in_by_a_port_of_the_host(host: Host, town: Company) -> None:
    with listening(host, SHOP, 8080, "by IPv4"):
        done = page(host, DOOR, HOST_PORT, OUTSIDE)
        assert done.code == 0 and "by IPv4" in done.out, str(done)
        done = opens(host, PRIVATE, 8080, OUTSIDE)
        assert done.code == 1, f"a private address is known outside: {done}"
        assert page(host, DOOR, HOST_PORT, OUTSIDE).code == 0


def test_it_reaches_the_outside_with_the_address_of_its_host(host: Host, town: Company) -> None:
    """The way from the visitor to the jail's own address is closed, as the test before has shown."""
    with listening(host, OUTSIDE, 7777, "good day"), listening(host, OUTSIDE, 7778, "good day"):
        assert page(host, VISITOR, 7777).code == 0 and page(host, VISITOR, 7778).code == 0
        done = page(host, VISITOR, 7777, SHOP)
        assert done.code == 0 and "good day" in done.out, str(done)
        done = opens(host, VISITOR, 7778, SHOP)
        assert done.code == 1, f"it did not ask for this port: {done}"


def test_it_is_reached_on_the_segment(host: Host, town: Company) -> None:
    done = pings(host, ON_SEGMENT, OUTSIDE)
    assert done.code == 0, str(done)
    with listening(host, SHOP, 8080, "by the segment"), listening(host, SHOP, 8081, "by the segment"):
        done = page(host, ON_SEGMENT, 8080, OUTSIDE)
        assert done.code == 0 and "by the segment" in done.out, str(done)
        assert page(host, "127.0.0.1", 8081, SHOP).code == 0
        done = opens(host, ON_SEGMENT, 8081, OUTSIDE)
        assert done.code == 1, f"it does not publish this port: {done}"


def test_a_limit_of_open_files_comes_without_a_restart(host: Host, town: Company, racct: bool) -> None:
    before = starts(host, "lab--shop"), jid(host, SHOP)
    town.edit("shop", limits={**LIMITS, "openFiles": 2000})
    planned = town.settle("shop opens no more than 2000 files")
    assert touched(planned) == {"lab--shop"} and disrupted(planned) == set(), str(planned)
    assert (starts(host, "lab--shop"), jid(host, SHOP)) == before
    if racct:
        rules = host.run("rctl").out
        assert f"jail:{SHOP}:openfiles:deny=2000\n" in rules, rules
        assert f"jail:{WEB_JAIL}:openfiles" not in rules, rules


def test_a_grant_comes_and_goes_without_a_restart(host: Host, town: Company) -> None:
    before = starts(host, "lab--web"), jid(host, WEB_JAIL)
    for grants, allowed in ((["mlock"], "true"), (None, "false")):
        town.amend(BLUEPRINT, grants=grants)
        planned = town.settle(f"Pages may lock memory: {allowed}")
        assert touched(planned) == {"lab--web", "lab--db", "lab--shop"} and disrupted(planned) == set(), str(planned)
        for jail in (WEB_JAIL, SHOP):
            assert host.out(f"jls -j {jail} allow.mlock") == allowed
        town.nothing_to_do()
    assert (starts(host, "lab--web"), jid(host, WEB_JAIL)) == before


def test_it_moves_out_and_the_host_is_as_it_was_before(host: Host, town: Company, settled: dict[str, str]) -> None:
    town.remove("shop")
    town.amend(HOST, uplink=None, switches=[{"name": SWITCH, "addresses": [f"{GATEWAY}/64"]}])
    planned = town.settle("The shop moves out")
    assert disrupted(planned) == {"lab--shop"}, str(planned)
    town.nothing_to_do()
    host.run(UNMAKE)
    # other modules may be loaded by now, and the visitor of the other tests made anew
    assert difference(settled, host.look(), "modules", f"inside {HAND}") == ""


# ── a tunnel: its other end is on a host that nobody looks at ────────────────────────────────────────────────

SPIPED = "/usr/local/bin/spiped"
STANDS_IN = "#!/bin/sh\\n[ -r /etc/tunnels/lab--far/key ] || exit 1\\nwhile :; do sleep 1; done\\n"
"""Where the package is not: what daemon(8) keeps up, as whom, and whether that one can read the key."""
TUNNEL = {"from": {"jail": "web", "port": 5432}, "to": {"jail": "far", "port": 5432}, "port": 5433, "key": "pipe"}
ELSEWHERE = ("customers/lab/tunnels/far.yaml", "customers/lab/secrets/pipe.age", "hosts/far.yaml")


def write_tunnel(town: Company) -> None:
    identity = pyrage.x25519.Identity.generate()
    (town.folder / "keys").mkdir(mode=0o700, exist_ok=True)
    (town.folder / "keys" / "lab.key").write_text(f"{identity}\n")
    town.amend("customers/lab/customer.yaml", recipient=str(identity.to_public()))
    town.write(ELSEWHERE[0], document("Tunnel", "far", TUNNEL))
    (town.clone / "customers/lab/secrets").mkdir(exist_ok=True)
    (town.clone / ELSEWHERE[1]).write_text(seal(b"some random bytes\n", str(identity.to_public())))
    far = ryaml.loads((town.clone / HOST).read_text())
    far["metadata"]["name"], far["spec"]["ssh"]["address"] = "far", f"{GATEWAY}a"
    town.write(ELSEWHERE[2], far)
    town.jail("far", {"blueprint": "page", "host": "far"})


def running(host: Host) -> list[str]:
    """Of the tunnel in the jail: what keeps it up, and what is kept up."""
    shown = host.out(f"ps -ww -o command= -J $(jls -j {WEB_JAIL} jid)").splitlines()
    return [line for line in shown if "tunnel" in line]


def test_a_tunnel_names_the_package_that_is_missing_and_runs_where_it_is(host: Host, town: Company) -> None:
    before = starts(host, "lab--web"), jid(host, WEB_JAIL)
    packaged = host.run(f"test -x {SPIPED}", check=False).code == 0
    write_tunnel(town)
    town.push("A tunnel to a host far away")
    if not packaged:
        done = town.run("apply", NAME)
        assert done.code == 1 and "spiped is not installed on this host: pkg install spiped" in str(done), str(done)
        assert running(host) == []
        host.run(f"mkdir -p /usr/local/bin; printf '{STANDS_IN}' >{SPIPED}; chmod 755 {SPIPED}")
    done = town.run("apply", NAME)
    assert done.code == 0, str(done)
    kept = running(host)
    assert len(kept) == 2 and any(line.startswith("daemon: tunnel lab--far ") for line in kept), kept
    users = host.out(f"ps -ww -o uid=,command= -J $(jls -j {WEB_JAIL} jid) | grep -v daemon: | grep /etc/tunnels/")
    assert users.split()[0] == "1001", users
    assert (starts(host, "lab--web"), jid(host, WEB_JAIL)) == before
    town.nothing_to_do()


def test_a_tunnel_that_somebody_ended_is_found_and_started(host: Host, town: Company) -> None:
    host.run(f"pkill -j $(jls -j {WEB_JAIL} jid) -f '^daemon: tunnel '")
    planned = town.plan()
    assert "tunnel lab--far in lab--web: runs missing" in words(planned), words(planned)
    town.carry_out(planned)
    assert len(running(host)) == 2
    town.nothing_to_do()


def test_a_tunnel_that_goes_leaves_nothing(host: Host, town: Company, settled: dict[str, str]) -> None:
    town.remove("far")
    for path in ELSEWHERE:
        (town.clone / path).unlink()
    planned = town.settle("No tunnel any more")
    assert disrupted(planned) == set(), str(planned)
    assert running(host) == []
    assert host.run(f"find /etc/reconciler/tunnels {HOME}/lab--web/root/etc/tunnels -type f").out == ""
    host.run(f"if [ \"$(head -c 2 {SPIPED})\" = '#!' ]; then rm {SPIPED}; fi")
    town.nothing_to_do()
    assert difference(settled, host.look(), "modules", f"inside {HAND}") == ""
