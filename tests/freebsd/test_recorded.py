"""What the tests of a real host stand on, tried without one: reading recorded outputs, the repository, the addresses.

The recorded outputs are of a FreeBSD 13.2 host; `ifconfig.jail.txt` is the same host with a jail on a bridge.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from . import conftest
from . import test_g_further as further
from .company import BLUEPRINT, HOST, JAILS, LIMITS, Company, digest_of, platform
from .host import RUN, SNAPSHOT, Done, Host, Target, target
from .look import LOOK, difference, inside, interfaces, listed, modules, ordered, routes, sections
from .sweep import REMEMBER, SWEEP
from .test_e_drift import FILES, NETWORK, RULES, VARIABLES
from .test_e_drift import JAILS as JAIL_CASES
from .traffic import FILES as HAND_FILES
from .traffic import MAKE, TRY, theirs

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / f"{name}.txt").read_text()


# ── looking ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bridge_and_an_interface_of_a_jail_are_what_differs() -> None:
    bare, jail = interfaces(recorded("ifconfig.bare")), interfaces(recorded("ifconfig.jail"))
    assert listed(bare) == ["lo0", "vtnet0"]
    assert listed(jail) == ["epair0a", "lo0", "vtnet0", "xbridge"]
    told = difference({"interfaces": bare}, {"interfaces": jail})
    assert not [line for line in told.splitlines() if line.startswith("-") and not line.startswith("---")], told
    assert "+xbridge: member: epair0a flags=<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>" in told
    assert "+xbridge: inet6 fd00:99::1 prefixlen 64" in told


def test_numbers_and_addresses_of_the_kernels_own_choice_make_no_difference() -> None:
    first = recorded("ifconfig.jail")
    second = (
        first.replace("02:be:8a:f4:37:0a", "02:00:00:00:00:0a")
        .replace("58:9c:fc:10:43:2b", "58:9c:fc:00:00:01")
        .replace("scopeid 0x2", "scopeid 0x7")
        .replace("port 4 priority", "port 9 priority")
    )
    assert first != second
    assert interfaces(first) == interfaces(second)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("fd00:99::1 prefixlen 64", "fd00:99::1 prefixlen 128"),
        ("52:54:00:12:34:56", "52:54:00:12:34:57"),
        ("<UP,BROADCAST,RUNNING,SIMPLEX,MULTICAST> metric 0 mtu 1500\n\tether 58", "<BROADCAST> metric 0\n\tether 58"),
        ("description: web", "description: db"),
        ("\tmember: epair0a flags=143<LEARNING,DISCOVER,AUTOEDGE,AUTOPTP>\n", ""),
    ],
)
def test_what_an_administrator_changes_does(old: str, new: str) -> None:
    first = recorded("ifconfig.jail")
    assert old in first
    assert interfaces(first) != interfaces(first.replace(old, new))


def test_an_end_of_an_epair_that_was_in_a_jail_before_looks_as_a_new_one_does() -> None:
    """if_vmove gives a group back on the way in, and not on the way home."""
    first = recorded("ifconfig.inside")
    assert "\tgroups: epair\n" in first
    assert interfaces(first) == interfaces(first.replace("\tgroups: epair\n", ""))


def test_routes_are_told_without_numbers_of_links() -> None:
    told = routes(recorded("netstat"))
    assert told.splitlines() == [
        "::/96 ::1 URS lo0",
        "::1 link UHS lo0",
        "::ffff:0.0.0.0/96 ::1 URS lo0",
        "ff02::/16 ::1 URS lo0",
    ]
    assert "default fd00:99::1 UGS epair0b" in routes(recorded("netstat.inside"))


def test_the_inside_of_a_jail_is_its_interfaces_and_its_routes() -> None:
    told = inside(recorded("ifconfig.inside") + recorded("netstat.inside"))
    assert listed(told.partition("\n0")[0])
    assert "epair0b: inet6 fd00:99::2 prefixlen 64" in told and "default 10.99.0.1 UGS epair0b" in told


def test_mounts_are_told_in_one_order_and_modules_by_name() -> None:
    bare, jail = ordered(recorded("mount.bare")), ordered(recorded("mount.jail"))
    more = set(jail.splitlines()) - set(bare.splitlines())
    assert more == {
        "devfs /jails/web/dev devfs rw 0 0",
        "zroot/jails/web /jails/web zfs rw,noatime,nfsv4acls 0 0",
    }
    assert modules(recorded("kldstat")).split() == [
        "bridgestp.ko",
        "if_bridge.ko",
        "if_epair.ko",
        "kernel",
        "xdr.ko",
        "zfs.ko",
    ]


def test_a_look_is_split_into_normalised_sections() -> None:
    text = f"== interfaces\n{recorded('ifconfig.jail')}== rules\n{recorded('pfctl-sr')}== jails\n== pf\nEnabled\n"
    look = sections(text + "== inside web\n" + recorded("ifconfig.inside") + recorded("netstat.inside"))
    assert look["pf"] == "Enabled" and look["rules"] == recorded("pfctl-sr").strip()
    assert look["inside web"].startswith("epair0b: ")
    assert (
        difference(look, {**look, "pf": "Disabled"})
        == "--- pf, before\n+++ pf, now\n@@ -1 +1 @@\n-Enabled\n+Disabled\n"
    )
    assert difference(look, {**look, "pf": "Disabled"}, "pf") == ""


def test_tables_that_pf_names_by_chance_make_no_difference() -> None:
    first, second = (
        "== rules\nblock in from <__automatic_1a2b_0> to any\n",
        "== rules\nblock in from <__automatic_9f_3> to any\n",
    )
    assert sections(first) == sections(second) != sections(second.replace("block", "pass"))


def test_what_is_not_ours_is_found_in_a_look() -> None:
    look = {
        "interfaces": "byhand0: up\nrcbr0: up",
        "inside byhand": "lo0: up",
        "anchor ftp": "pass",
        "anchor reconciler": "block",
        "jails": "lab__web /x web",
    }
    assert theirs(look) == {
        "interfaces": "byhand0: up",
        "inside byhand": "lo0: up",
        "anchor ftp": "pass",
        "anchor reconciler": "",
        "jails": "",
    }


# ── reaching ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "name", "port"),
    [
        ("root@[2001:db8::1]:2222", "2001:db8::1", 2222),
        ("root@[::1]", "::1", 22),
        ("root@192.0.2.1:2222", "192.0.2.1", 2222),
        ("root@host.example", "host.example", 22),
    ],
)
def test_a_host_is_told_by_its_address_and_port(text: str, name: str, port: int) -> None:
    assert target(text) == Target(name, port)


@pytest.mark.parametrize("text", ["", "host", "ada@host:22", "root@2001:db8::1", "root@[::1]:", "root@host:ssh"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="RECONCILER_FREEBSD_SSH"):
        target(text)


def test_the_document_of_a_host_has_its_ipv6_address() -> None:
    assert Target("192.0.2.1", 22).literal == ""
    assert Target("2001:DB8::1", 22).literal == "2001:db8::1"


def test_a_host_of_ipv4_alone_is_reached_by_ipv6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sshd:
        way = Host(Target("127.0.0.1", sshd.getsockname()[1]), Path("key"), Path("known_hosts")).way
        with socket.create_connection(way, timeout=30) as visitor:
            visitor.sendall(b"hello")
            visitor.shutdown(socket.SHUT_WR)
            server, _ = sshd.accept()
            with server:
                assert server.recv(100) + server.recv(100) == b"hello"
                server.sendall(b"good day")
            assert visitor.recv(100) == b"good day" and visitor.recv(100) == b""
    assert way[0] == "::1"


def test_a_script_runs_by_its_own_exit_status_with_nothing_on_its_standard_input(host_here: Host) -> None:
    wrapped = RUN.partition("LC_ALL=C ")[2]
    script = "cat\necho \"it's\" '$HOME!'\nfalse || exit 255\n"
    ended = subprocess.run(["sh", "-c", wrapped], input=script, capture_output=True, text=True, check=False)
    host_here.call(["true"])
    done = host_here.ended(script, Done("", ended.returncode, ended.stdout))
    assert (done.code, done.out) == (255, "it's $HOME!\n"), str(done)
    assert "exit status 255" in repr(done) and "exit status 255" in host_here.told()


def test_a_connection_that_breaks_is_not_taken_for_an_exit_status(host_here: Host) -> None:
    host_here.call(["true"])
    done = host_here.ended("x", Done("x", 255, "half", "Connection closed"))
    assert done.code == -1 and "the connection broke" in done.err


def test_a_command_that_takes_too_long_is_ended_and_told(host_here: Host) -> None:
    done = host_here.call(["sh", "-c", "echo begun; exec sleep 60"], timeout=0.5)
    assert done.code == -1 and "begun" in done.out and "not within" in done.err


@pytest.mark.parametrize(
    "script", [LOOK, SNAPSHOT, SWEEP, REMEMBER, MAKE, HAND_FILES, TRY, further.MAKE, further.UNMAKE]
)
def test_every_script_is_one_for_sh(script: str) -> None:
    ended = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("case", [*NETWORK, *RULES, *JAIL_CASES, *FILES], ids=lambda case: case.what)
def test_every_change_by_hand_is_one_for_sh(case: object) -> None:
    test_every_script_is_one_for_sh(VARIABLES + getattr(case, "hand", ""))


# ── the repository ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["2001:db8::1", "127.0.0.1"])
def host_here(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    """Nobody connects to it; the second is a machine whose sshd is forwarded."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIPBPphbyaw9AhyG46k7bD+mjI9upvztZCOkg4+MgYKH"
    return Host(Target(request.param, 2222), tmp_path / "key", tmp_path / "known_hosts", key)


def test_the_repository_has_no_problems_with_and_without_jails(host_here: Host, tmp_path: Path) -> None:
    company = Company(tmp_path / "company", host_here)
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)
    for name, spec in JAILS.items():
        company.jail(name, spec)
    company.push("Two jails move in")
    company.edit("web", restart=1, limits={"memory": "768Mi", "processes": 50}, address="fd52:6563:6f6e:1::81")
    company.edit("db", publish=[*JAILS["db"]["publish"], {"port": 8081}])
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)
    company.wall([{"ports": [7777]}])
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)
    company.wall(None)
    company.amend(HOST, uplink="outside0", switches=further.SWITCHES)
    company.amend(BLUEPRINT, grants=["mlock"])
    company.jail("shop", {**further.SPEC, "limits": {**LIMITS, "openFiles": 2000}})
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)
    company.remove("shop")
    company.edit("web", links=None, after=None)
    company.remove("db")
    done = company.run("validate", str(company.clone))
    assert done.code == 0, str(done)


def test_the_platform_is_one_that_the_schema_knows() -> None:
    assert platform() in ("freebsd", "linux")


def test_a_plans_digest_is_read_from_what_people_see() -> None:
    assert digest_of("host fb: refused: too much\n  - x\n  plan 0123456789abcdef\n") == "0123456789abcdef"


def test_the_application_is_one_for_sh() -> None:
    serve = Path(__file__).parent / "application/serve"
    assert subprocess.run(["sh", "-n", str(serve)], check=False).returncode == 0


# ── without a host ───────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_host_the_reason_names_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILER_FREEBSD_SSH", raising=False)
    assert "RECONCILER_FREEBSD_SSH" in conftest.reason() and "RECONCILER_FREEBSD_KEY" in conftest.reason()
    monkeypatch.setenv("RECONCILER_FREEBSD_SSH", "root@[::1]:22")
    monkeypatch.setenv("RECONCILER_FREEBSD_KEY", "/key")
    monkeypatch.setenv("RECONCILER_LAB", "1")
    assert "network" in conftest.reason()
    monkeypatch.delenv("RECONCILER_LAB")
    assert conftest.reason() == ""
