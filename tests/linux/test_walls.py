"""The walls: what a jail's documents open is open, from the right places and for the right traffic; all else is closed.

Every "closed" is asked together with something "open" at the same address, so that silence is the wall's.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .frames import ECHO, ICMP6, IP6, UDP, Wire, ether, icmp6, ip6, tagged, udp6
from .test_network import staged
from .town import (
    APP,
    BAPP,
    BSPY,
    BWEB,
    ELSEWHERE,
    LON_ROUTER,
    OFFICE,
    RESOLVER,
    ROOT,
    ROUTER,
    SPY,
    WEB,
    Target,
    Town,
    ip,
    listening,
)

ALL = (WEB, APP, ROOT, SPY, BWEB, BAPP, BSPY)


def doors(town: Town, *jails: str) -> list[Target]:
    ports = (80, 81, 82, 6379)
    return [Target(town.address_of(j), port, kind) for j in jails for port in ports for kind in ("tcp", "udp")]


def test_from_outside_exactly_the_published_ports_are_reached(town: Town) -> None:
    web, bweb = town.address_of(WEB), town.address_of(BWEB)
    found = town.reaches(ELSEWHERE, doors(town, *ALL))
    assert found == {Target(web, 80), Target(web, 80, "udp"), Target(bweb, 80)}


def test_a_port_published_from_a_prefix_is_reached_only_from_there(town: Town) -> None:
    office = {target.port for target in town.reaches(OFFICE, doors(town, WEB)) if target.protocol == "tcp"}
    elsewhere = {target.port for target in town.reaches(ELSEWHERE, doors(town, WEB)) if target.protocol == "tcp"}
    assert (office, elsewhere) == ({80, 82}, {80})


@pytest.mark.parametrize("start", [APP, BAPP])
def test_a_sibling_reaches_what_lets_it_in_by_name_on_its_host_and_in_another_location(town: Town, start: str) -> None:
    found = town.reaches(start, doors(town, *(jail for jail in ALL if jail != start)), 2)
    assert found == {Target(town.address_of(WEB), 6379), Target(town.address_of(BWEB), 6379)}


@pytest.mark.parametrize("start", [ROOT, BWEB])
def test_a_sibling_that_nobody_names_reaches_nothing(town: Town, start: str) -> None:
    assert town.reaches(start, doors(town, *(jail for jail in ALL if jail != start))) == set()


@pytest.mark.parametrize("start", [SPY, BSPY])
def test_another_customers_jail_reaches_what_everybody_reaches_even_if_it_may_reach_anything(
    town: Town, start: str
) -> None:
    web, bweb = town.address_of(WEB), town.address_of(BWEB)
    found = town.reaches(start, doors(town, *(jail for jail in ALL if jail != start)), 2)
    assert found == {Target(web, 80), Target(web, 80, "udp"), Target(bweb, 80)}


def test_a_jail_reaches_what_its_list_says_and_the_resolvers(town: Town) -> None:
    allowed = {Target(ROUTER, 8080), Target(RESOLVER, 53), Target(RESOLVER, 53, "udp")}
    forbidden = {Target(ROUTER, 8081), Target(ROUTER, 8080, "udp"), Target(LON_ROUTER, 8080), Target(RESOLVER, 54)}
    with (
        listening("::", 8080),
        listening("::", 8081),
        listening(ROUTER, 8080, "udp"),
        listening(RESOLVER, 53),
        listening(RESOLVER, 53, "udp"),
        listening(RESOLVER, 54),
    ):
        assert town.reaches(APP, allowed | forbidden) == allowed
        assert town.reaches(BAPP, allowed | forbidden) == {target for target in allowed if target.port == 53}


def addresses(town: Town, host: str, scope: str) -> set[str]:
    """All addresses of a host, the link-local ones as a jail would write them."""
    script = "ip -o -6 addr show | awk '{print $4, $2}'; ip -o -4 addr show | awk '{print $4, $2}'"
    found = set()
    for line in town[host].run(script).stdout.splitlines():
        address, device = line.split()
        if device != "lo":
            address = address.partition("/")[0]
            found.add(f"{address}%{scope}" if address.startswith("fe80:") else address)
    return found


@pytest.mark.parametrize("start", [SPY, BSPY])
def test_a_jail_reaches_no_port_of_its_host_but_the_hosts_echo(town: Town, start: str) -> None:
    host = town.host_name(start)
    # a service that answers on every address of the host, by TCP and UDP
    tool = town[host].run("mkdir -p /data; ls /var/lib/reconciler/trees/*/tool.py | head -1").stdout.strip()
    setting = "-E PORTS='80 81' -E JAIL_NAME=host"
    town[host].run(f"systemd-run --quiet --unit=answers {setting} /usr/bin/python3 {tool}")
    try:
        own = addresses(town, host, "eth0")
        assert len(own) >= 3, own
        targets = {Target(a, port, kind) for a in own for port in (22, 80, 81) for kind in ("tcp", "udp")}
        # the same from the host itself: the service is there
        assert (
            "host"
            in town[host]
            .run("for i in 1 2 3 4 5 6 7 8 9; do socat -T1 - 'TCP6:[::1]:80' && break; sleep 0.1; done")
            .stdout
        )
        assert town.reaches(start, targets) == set()
    finally:
        town[host].run("systemctl stop answers")
    script = "ip -o -6 addr show dev lan0 scope link | awk '{print $4}'"
    beside = "fe80::1" if host == "a" else town[host].run(script).stdout.partition("/")[0]
    assert town.pings(start, f"{beside}%eth0")


def test_a_host_that_has_its_address_on_the_bridge_is_still_reached_but_not_by_its_jails(town: Town) -> None:
    address, neighbour = "2001:db8:ffff:7c::b", "2001:db8:ffff:7c::1"
    ip(f"addr add {neighbour}/64 dev tlan nodad")
    try:
        switch = {"name": "lan0", "uplink": "eth1", "addresses": [f"{address}/64"]}
        town.edit("hosts/b.yaml", switches=[switch])
        town.converge("b")
        assert town.reaches(neighbour, [Target(address, 22)], 2)
        assert town.reaches(BSPY, [Target(address, 22), Target(town.address_of(WEB), 80)], 2) == {
            Target(town.address_of(WEB), 80)
        }
    finally:
        ip(f"addr del {neighbour}/64 dev tlan")


def test_echo_passes_both_ways(town: Town) -> None:
    for jail in ALL:
        assert town.pings(ELSEWHERE, town.address_of(jail)), jail
        assert town.pings(jail, ROUTER), jail
    assert town.pings(APP, town.address_of(BWEB))
    assert town.pings(BAPP, town.address_of(WEB))


@pytest.mark.parametrize("jail", [WEB, BWEB])
def test_neighbours_find_each_other_again_when_all_have_forgotten(town: Town, jail: str) -> None:
    host = town.host_of(jail)
    town.in_room(jail, "ip -6 neigh flush all nud all 2>/dev/null; ip -6 neigh flush dev eth0")
    host.run("for device in eth0 jails0 lan0; do ip -6 neigh flush dev $device || true; done")
    for segment in ("tcam", "tlan"):
        subprocess.run(["ip", "-6", "neigh", "flush", "dev", segment], check=False, capture_output=True)
    assert town.reaches(ELSEWHERE, [Target(town.address_of(jail), 80)], 4)
    town.in_room(jail, "ip -6 neigh flush dev eth0")
    assert town.pings(jail, RESOLVER)


@pytest.fixture
def narrow() -> Iterator[str]:
    """An address behind a link that takes packets of 1300 bytes; its own computer does not know."""
    address = "2001:db8:ffff:abc::2"
    subprocess.run(["ip", "netns", "add", "far"], check=True)
    ip("link add narrow type veth peer name eth0 netns far", "addr add 2001:db8:ffff:abc::1/64 dev narrow nodad")
    ip("link set narrow up", f"route add {address}/128 dev narrow mtu 1300")
    far = f"addr add {address}/64 dev eth0 nodad\nlink set eth0 up\nroute add default via 2001:db8:ffff:abc::1\n"
    subprocess.run(["ip", "-n", "far", "-batch", "-"], input=far, text=True, check=True)
    try:
        yield address
    finally:
        subprocess.run(["ip", "link", "del", "narrow"], check=False)
        subprocess.run(["ip", "netns", "del", "far"], check=False)


@pytest.mark.parametrize("jail", [WEB, BWEB])
def test_a_jail_hears_that_its_packets_are_too_big_for_a_link_far_away(town: Town, narrow: str, jail: str) -> None:
    script = (
        "import socket,sys; s = socket.create_connection((sys.argv[1], 80), 4); f = s.makefile('rwb');"
        "f.readline(); f.write(b'x' * 9000 + b'\\n'); f.flush(); s.settimeout(8); print(len(f.readline()))"
    )
    command = ["ip", "netns", "exec", "far", sys.executable, "-c", script, town.address_of(jail)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.stdout.strip() == "9001", done.stderr
    assert "mtu 1300" in town.in_room(jail, f"ip -6 route get {narrow}")


def test_connections_survive_new_rules(town: Town) -> None:
    with (
        socket.create_connection((town.address_of(WEB), 80), 3) as to_a,
        socket.create_connection((town.address_of(BWEB), 80), 3) as to_b,
    ):
        for connection in (to_a, to_b):
            assert connection.recv(100)
        loaded = town["a"].run("nft list table inet reconciler | sha256sum").stdout
        town.red("app", publish=[{"port": 81}])
        town.red("bapp", publish=[{"port": 81}])
        town.converge()
        assert town["a"].run("nft list table inet reconciler | sha256sum").stdout != loaded
        assert town.reaches(ELSEWHERE, [Target(town.address_of(APP), 81)])
        for connection in (to_a, to_b):
            connection.sendall(b"still here\n")
            assert connection.recv(100) == b"still here\n"


def test_a_port_that_is_no_longer_published_is_closed_by_the_next_pass(town: Town) -> None:
    town.red("bweb", publish=[{"port": 81}])
    town.converge("b")
    assert town.reaches(ELSEWHERE, doors(town, BWEB)) == {Target(town.address_of(BWEB), 81)}


def test_a_list_of_thousands_lets_in_whom_it_has_and_is_mended_when_somebody_changes_it(town: Town) -> None:
    entries = [OFFICE, *(f"2001:db8:f000:{number:x}::/64" for number in range(1, 4_000, 2))]
    town.write("lists/partners.txt", "".join(f"{entry}\n" for entry in entries))
    town.red("bweb", publish=[{"port": 80, "from": ["partners"]}])
    town.converge("b")
    door = Target(town.address_of(BWEB), 80)
    assert town.reaches(OFFICE, [door]) == {door}
    assert town.reaches(ELSEWHERE, [door]) == set()
    named = "$(nft -t list table inet reconciler | sed -n 's/^.set \\(list_[0-9a-f]*\\) {$/\\1/p')"
    town["b"].run(f"nft add element inet reconciler {named} '{{ {ELSEWHERE} }}'")
    assert "firewall rules: kernel changed by hand" in town.words("b")
    town.converge("b")
    assert town.reaches(ELSEWHERE, [door]) == set()


def test_the_hosts_policy_lets_in_whom_it_names_and_ssh_always(town: Town) -> None:
    b = town["b"].address
    answer = "import socket,sys\ns=socket.socket(10,{kind});s.bind(('::',{port}))\n"
    tcp = answer.format(kind=1, port=9100) + "s.listen()\nwhile 1: c,a=s.accept();c.send(b'x');c.close()"
    other = tcp.replace("9100", "9101")
    udp = answer.format(kind=2, port=123) + "while 1: d,a=s.recvfrom(9);s.sendto(b'x',a)"
    for name, text in (("tcp", tcp), ("other", other), ("udp", udp)):
        town["b"].run(f"systemd-run --quiet --unit=policy-{name} /usr/bin/python3 -c {shlex.quote(text)}")
    listening = "ss -Hlntu | grep -cE ':(9100|9101|123) '"
    town["b"].run(f"timeout 20 sh -c {shlex.quote(f'until [ $({listening}) = 3 ]; do sleep 0.1; done')}")
    try:
        asked = [Target(b, 9100), Target(b, 9101), Target(b, 22), Target(b, 123, "udp")]
        assert town.reaches(OFFICE, asked, 2) == {Target(b, 9100), Target(b, 22), Target(b, 123, "udp")}
        assert town.reaches(ELSEWHERE, asked) == {Target(b, 22)}
    finally:
        town["b"].run("systemctl stop policy-tcp policy-other policy-udp")


def test_the_hosts_policy_lets_out_what_it_names_and_answers(town: Town) -> None:
    one = "socat -T1 - TCP6:$to,connect-timeout=1 </dev/null >/dev/null 2>&1 && echo $to"
    knock = f"for to in {{office}}:80 {{office}}:81 {{elsewhere}}:80; do {one}; done; true"
    with listening("::", 80), listening("::", 81):
        script = knock.format(office=f"[{OFFICE}]", elsewhere=f"[{ELSEWHERE}]")
        assert town["b"].run(script).stdout.split() == [f"[{OFFICE}]:80"]
        assert len(town["a"].run(script).stdout.split()) == 3


def test_rules_for_output_that_come_over_a_connection_do_not_cut_it(town: Town) -> None:
    """Connection tracking begins with our first rules, and knows nothing of the connection that brought them."""
    town.edit("hosts/a.yaml", policy="edge")
    town["a"].run("nft flush ruleset; sleep 0.2; conntrack -F 2>/dev/null || true")
    started = time.monotonic()
    town.converge("a")
    assert time.monotonic() - started < 15


def test_nobody_outside_speaks_with_a_jails_address(town: Town) -> None:
    """A sibling's address opens a port: a packet that comes from outside with it must not."""
    app, web = town.address_of(APP), town.address_of(WEB)
    host_mac = town["a"].run("cat /sys/class/net/eth0/address").stdout.strip()
    caught = Wire(Path(f"/proc/{town['a'].pid}/root/run/netns/{WEB}"), "eth0")
    outside = Wire(None, "tcam")
    mac = Path("/sys/class/net/tcam/address").read_text().strip()
    try:
        for source, mark in ((app, b"Pretends"), (ELSEWHERE, b"Honest")):
            outside.send(ether(host_mac, mac, IP6, ip6(source, web, UDP, udp6(source, web, 80, mark), 64)))
            echo = icmp6(source, web, ECHO, b"\0\1\0\1" + mark)
            outside.send(ether(host_mac, mac, IP6, ip6(source, web, ICMP6, echo, 64)))
        time.sleep(0.3)
        text = b"".join(caught.caught())
    finally:
        caught.close()
        outside.close()
    assert b"Honest" in text
    assert b"Pretends" not in text


def test_nobody_outside_speaks_as_the_host_itself(town: Town) -> None:
    """But for what neighbours say: one that has the same address defends it in its name."""
    host = town["a"]
    host_mac = host.run("cat /sys/class/net/eth0/address").stdout.strip()
    hear = "import socket\ns=socket.socket(10,2);s.bind(('::',9123))\nwhile 1: print(s.recv(99).decode(),flush=True)"
    host.run(f"systemd-run --quiet --unit=hears -p StandardOutput=file:/heard /usr/bin/python3 -c {shlex.quote(hear)}")
    host.run("timeout 20 sh -c 'until ss -Hlnu | grep -q :9123; do sleep 0.1; done'")
    outside = Wire(None, "tcam")
    mac = Path("/sys/class/net/tcam/address").read_text().strip()
    marks = {host.address: b"Pretends", "fe80::1": b"Router", ELSEWHERE: b"Honest"}
    try:
        for source, mark in marks.items():
            frame = ip6(source, host.address, UDP, udp6(source, host.address, 9123, mark), 64)
            outside.send(ether(host_mac, mac, IP6, frame))
        host.run("timeout 20 sh -c 'until grep -q Honest /heard; do sleep 0.1; done'")
        assert host.run("cat /heard").stdout.split() == ["Router", "Honest"]
    finally:
        outside.close()
        host.run("systemctl stop hears; rm -f /heard")


def test_two_jails_of_one_bridge_see_nothing_of_each_other_on_layer_2(town: Town) -> None:
    """Not even with true addresses: only the router lies between them."""
    for liar, victim in ((SPY, WEB), (APP, WEB), (BSPY, BWEB), (BAPP, BWEB)):
        with staged(town, liar, victim) as stage:
            s = stage.scene
            packet = ip6(s.own, "ff02::1", ICMP6, icmp6(s.own, "ff02::1", ECHO, b"\0\1\0\1Hello"))
            stage.liar.send(ether("33:33:00:00:00:01", s.mac, IP6, packet), ether(s.victim_mac, s.mac, IP6, packet))
            time.sleep(0.2)
            assert b"Hello" in b"".join(stage.wires["the host"].caught())
            assert b"Hello" not in b"".join(stage.wires["the neighbour"].caught())


def test_frames_with_a_tag_do_not_come_past_the_rules_to_a_bridged_jail(town: Town) -> None:
    nic = next(jail.nic for jail in town.fleet.hosts["b"].jails if jail.id == BWEB)
    mac = Path("/sys/class/net/tlan/address").read_text().strip()
    caught = Wire(Path(f"/proc/{town['b'].pid}/root/run/netns/{BWEB}"), "eth0")
    outside = Wire(None, "tlan")
    try:
        for mark, port, vlan in ((b"Honest", 80, None), (b"Tagged0", 81, 0), (b"Tagged7", 81, 7), (b"Plain", 81, None)):
            if mark == b"Honest":
                body = icmp6(ELSEWHERE, town.address_of(BWEB), ECHO, b"\0\1\0\1" + mark)
                packet = ip6(ELSEWHERE, town.address_of(BWEB), ICMP6, body)
            else:
                packet = ip6(ELSEWHERE, town.address_of(BWEB), UDP, udp6(ELSEWHERE, town.address_of(BWEB), port, mark))
            frame = ether(nic.mac, mac, IP6, packet)
            outside.send(frame if vlan is None else tagged(frame, vlan))
        time.sleep(0.3)
        text = b"".join(caught.caught())
    finally:
        caught.close()
        outside.close()
    assert b"Honest" in text
    assert not {mark for mark in (b"Tagged0", b"Tagged7", b"Plain") if mark in text}
