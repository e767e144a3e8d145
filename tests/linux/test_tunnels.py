"""Tunnels between two real hosts: what a jail says to its localhost is heard at another's, encrypted on the way.

In: the town, where `a` is routed and `b` is bridged. A pipe leads from port 5000 of red--app to port 81 of red--bweb,
which that one publishes to nobody; it is taken in at 5001. The pipes of UI Rig, on a segment, are in `test_uirig.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .test_boot import SETTLED
from .town import API, APP, BAPP, BSPY, BWEB, SPEC, SPY, Town

DOCUMENT = "customers/red/tunnels/pipe.yaml"
UNIT = "reconciler-tunnel-red--pipe.service"
AGAIN = f"systemctl restart {UNIT}"
KEY = f"jails/{BWEB}/tunnels/red--pipe.key"
# Reads what is on the segment until the pipe is quiet; prints whether the greeting is in it, and how often its port.
LISTEN = """
import socket, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
s.bind(("eth1", 0))
s.settimeout(1)
open("/tmp/listening", "w").close()
end, seen, port = time.monotonic() + 9, b"", bytes([5001 >> 8, 5001 & 255])
while time.monotonic() < end:
    try: seen += s.recv(9000)
    except OSError:
        if port in seen: break
print(b"bweb" in seen, seen.count(port))
"""
WAIT = "for i in $(seq 99); do [ {} ] && break; sleep 0.1; done"
GREETING = 'import socket; print(socket.create_connection(("::1", 5000), 3).recv(99).decode())'

STAY = (
    'import socket, time; s = socket.create_connection(("::1", 5000), 3); '
    "print(s.recv(4).decode(), flush=True); time.sleep(60)"
)


@pytest.fixture(scope="module")
def piped_town(whole_town: Town) -> Iterator[Town]:
    documents(whole_town)
    whole_town.converge()
    yield whole_town
    whole_town.restore()
    whole_town.converge()


def documents(town: Town) -> None:
    spec = {"from": {"jail": "app", "port": 5000}, "to": {"jail": "bweb", "port": 81}, "port": 5001, "key": "pipe"}
    head = {"apiVersion": API, "kind": "Tunnel", "metadata": {"name": "pipe"}}
    town.secret("red", "pipe", b"thirty-two bytes, more or less\n")
    town.write(DOCUMENT, {**head, SPEC: spec})


@pytest.fixture
def piped(piped_town: Town) -> Iterator[Town]:
    """With the pipe as it should be, before and after."""
    yield piped_town
    documents(piped_town)
    for name in piped_town.hosts:
        assert piped_town.reconcile(name).ready


def greeting(town: Town) -> str:
    """Who answers at the pipe's end; a tunnel that was started a moment ago may not listen yet."""
    for _ in range(50):
        code, out = town.attempt(APP, f"python3 -c '{GREETING}'")
        if code == 0 and out.strip():
            return out.strip()
        time.sleep(0.1)
    return f"nobody: {out}"


def test_what_connects_to_localhost_comes_out_at_localhost_of_the_other_jail(piped: Town) -> None:
    assert greeting(piped) == "bweb ::1"
    assert not piped.words("a") and not piped.words("b")


def test_nobody_else_reaches_the_pipe_nor_what_it_leads_to(piped: Town) -> None:
    bweb, app = piped.address_of(BWEB), piped.address_of(APP)
    script = "import socket; socket.create_connection(('{}', {}), 1)"
    opens = {
        (who, port): piped.attempt(who, f'python3 -c "{script.format(address, port)}"')[0] == 0
        for who, address, port in (
            (APP, bweb, 5001),
            (APP, bweb, 81),
            (BAPP, bweb, 5001),
            (SPY, bweb, 5001),
            (BSPY, bweb, 5001),
            (SPY, app, 5000),
        )
    }
    assert [pair for pair, open in opens.items() if open] == [(APP, 5001)]


def test_what_is_on_the_wire_cannot_be_read(piped: Town) -> None:
    """The segment's frames, as the host of the second jail has them on its bridge."""
    host = piped["b"]
    listening = "python3 /tmp/listen.py >/tmp/heard 2>&1 &"
    host.run(f"cat >/tmp/listen.py <<'END'\n{LISTEN}\nEND\n{listening}\n{WAIT.format('-e /tmp/listening')}")
    assert greeting(piped) == "bweb ::1"
    host.run(WAIT.format("-s /tmp/heard"))
    readable, frames = host.run("cat /tmp/heard; rm /tmp/listen.py /tmp/listening /tmp/heard").stdout.split()
    assert readable == "False" and int(frames) > 2


def test_neither_jail_sees_the_key_or_the_program_and_the_key_is_roots(piped: Town) -> None:
    for jail in (APP, BWEB):
        out = piped.inside(
            jail, "ls /run/secrets /etc 2>&1; ps -e 2>/dev/null; cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '"
        )
        assert "spiped" not in out and "red--pipe" not in out
    assert piped["b"].run(f"stat -c '%a %U' /var/lib/reconciler/{KEY}").stdout.strip() == "400 root"
    user, powers = (
        piped["b"]
        .run(f"pid=$(systemctl show -P MainPID {UNIT}); stat -c %u /proc/$pid; grep CapEff /proc/$pid/status")
        .stdout.split("\n")[:2]
    )
    assert user == "65534" and powers.split()[1] == "0000000000000000"


@pytest.mark.parametrize(
    ("by_hand", "told"),
    [
        (f"systemctl stop {UNIT}", "runs missing"),
        (f"systemctl disable {UNIT}; rm -f /etc/systemd/system/{UNIT}; systemctl daemon-reload", "is missing"),
        (
            f"sed -i s/5001/5002/ /etc/systemd/system/{UNIT}; systemctl daemon-reload; systemctl restart {UNIT}",
            "differs",
        ),
        (f"echo other >/var/lib/reconciler/{KEY}; systemctl restart {UNIT}", "differs"),
        (f"chmod 644 /var/lib/reconciler/{KEY}", "is 0644 0:0, not 0400 0:0"),
    ],
    ids=["stopped", "unit removed", "another port", "another key", "a key that all can read"],
)
def test_what_somebody_does_to_a_tunnel_by_hand_is_found_and_mended(piped: Town, by_hand: str, told: str) -> None:
    piped["b"].run(by_hand)
    words = piped.words("b")
    assert "tunnel red--pipe" in words and told in words
    piped.converge("b")
    assert greeting(piped) == "bweb ::1"


def test_a_tunnel_that_was_killed_comes_back_by_itself(piped: Town) -> None:
    piped["b"].run(f"systemctl kill -s KILL {UNIT}")
    assert greeting(piped) == "bweb ::1"
    assert not piped.words("b")


def test_nobody_who_stays_connected_keeps_a_tunnel_from_starting_anew(piped: Town) -> None:
    held = f"ip netns exec {APP} python3 -c '{STAY}' >/tmp/held 2>&1"
    assert piped["a"].run(f"{held} & {WAIT.format('-s /tmp/held')}; cat /tmp/held").stdout == "bweb\n"
    began = time.monotonic()
    piped["a"].run(f"{AGAIN}; rm /tmp/held")
    assert time.monotonic() - began < 20
    assert greeting(piped) == "bweb ::1"


def test_another_key_and_another_port_reach_both_ends(piped: Town) -> None:
    piped.secret("red", "pipe", b"something else altogether\n")
    piped.edit(DOCUMENT, port=5003)
    piped.converge()
    assert greeting(piped) == "bweb ::1"


def test_a_key_at_one_end_alone_opens_nothing(piped: Town) -> None:
    piped.secret("red", "pipe", b"known to one of them\n")
    piped.converge("a")
    code, out = piped.attempt(APP, f"python3 -c '{GREETING}'")
    assert not out.strip() or code != 0


def test_a_jail_restarts_beside_its_tunnel(piped: Town) -> None:
    before = piped["b"].run(f"systemctl show -P MainPID {UNIT}").stdout
    piped.red("bweb", restart=1)
    piped.converge("b")
    piped.ready(BWEB)
    assert greeting(piped) == "bweb ::1"
    assert piped["b"].run(f"systemctl show -P MainPID {UNIT}").stdout == before
    piped.red("bweb", restart=None)


def test_a_network_made_again_has_its_tunnel_again(piped: Town) -> None:
    piped["a"].run(f"ip netns del {APP}; ip link del $(ls /sys/class/net | grep ^j | head -1)", check=False)
    piped.converge("a")
    piped.ready(APP)
    assert greeting(piped) == "bweb ::1"


def test_a_host_that_restarts_has_its_tunnel_again(piped: Town) -> None:
    piped["b"].restart()
    piped["b"].run(SETTLED, check=False)
    assert greeting(piped) == "bweb ::1"
    assert not piped.words("b")


def test_a_host_without_spiped_says_what_to_install(piped: Town) -> None:
    host = piped["b"]
    piped.remove(DOCUMENT)
    piped.converge()
    documents(piped)
    host.run("mount --bind /dev/null /usr/bin/spiped")
    try:
        report = piped.reconcile("b")
        assert [(f.owner, f.reason.strip()) for f in report.failures] == [
            (BWEB, "spiped is not installed on this host: apt-get install spiped")
        ]
        assert [change.key for change in report.pending] == ["tunnel/1 red--pipe"]
    finally:
        host.run("umount /usr/bin/spiped")
    piped.converge()
    assert greeting(piped) == "bweb ::1"


def test_a_tunnel_that_goes_leaves_nothing(piped: Town) -> None:
    piped.remove(DOCUMENT)
    piped.converge()
    for name in ("a", "b"):
        look = "find /etc/systemd /run/systemd/system /var/lib/reconciler -name '*red--pipe*'; ps -e | grep spiped"
        assert piped[name].run(look, check=False).stdout == ""
        assert "not-found" in piped[name].run(f"systemctl show -P LoadState {UNIT}").stdout
