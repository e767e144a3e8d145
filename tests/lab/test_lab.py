"""What the end-to-end tests and the demo may rely on: the lab's own tests.

In: this machine, entered through enter.sh (all are skipped elsewhere). Out: proof, host by host.
They look at hosts only as an administrator would: over ssh, with systemctl and machinectl.
"""

import os
import signal
import socket
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import Host, Init, Lab, LabError, Nic

fabric = pytest.importorskip("fabric")
paramiko = pytest.importorskip("paramiko")

pytestmark = pytest.mark.skipif(
    os.environ.get("RECONCILER_LAB") != "1" or os.geteuid() != 0,
    reason="needs the namespaces of tests/lab/enter.sh, and root",
)

ROUTER = "2001:db8:ffff:ca::1"
ROUTES = (f"default via {ROUTER}", "2001:db8:ca00::/40 dev eth0")


def describe(lab: Lab) -> tuple[Host, Host]:
    """Two servers of one provider, each with a second leg into a quiet segment."""
    lab.segment("cam", router=[f"{ROUTER}/64"], onlink=["2001:db8:ca00::/40"])
    lab.segment("lonlan")

    def host(name: str) -> Host:
        eth0 = Nic("cam", (f"2001:db8:ffff:ca::{name}/64",))
        return lab.host(name, {"eth0": eth0, "eth1": Nic("lonlan")}, ROUTES)

    return host("a"), host("b")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        describe(lab)
        lab.up()
        yield lab


@pytest.fixture
def a(lab: Lab) -> Host:
    return lab.hosts["a"]


@pytest.fixture
def b(lab: Lab) -> Host:
    return lab.hosts["b"]


def connect(host: Host, key: Path, host_key: str) -> Any:
    connection = fabric.Connection(
        host.address,
        user="root",
        config=fabric.Config(overrides={"load_ssh_configs": False}),
        connect_kwargs={"key_filename": str(key), "look_for_keys": False, "allow_agent": False},
    )
    connection.client.set_missing_host_key_policy(paramiko.RejectPolicy())
    kind, text = host_key.split()
    entry = paramiko.hostkeys.HostKeyEntry.from_line(f"{host.address} {kind} {text}")
    connection.client.get_host_keys().add(host.address, kind, entry.key)
    return connection


PING = """\
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.settimeout(3)
s.connect(socket.getaddrinfo(sys.argv[1], 0)[0][4])
s.send(bytes([128, 0, 0, 0, 0, 1, 0, 1]))
while s.recv(100)[0] != 129:
    pass
"""


def ping(host: Host, address: str) -> None:
    host.run(f"/usr/bin/python3 - {address}", input=PING)


def test_two_systemd_hosts_come_up_without_a_failed_unit(a: Host, b: Host) -> None:
    for host in (a, b):
        state = host.run("systemctl is-system-running --wait", check=False).stdout.strip()
        assert state == "running", host.run("systemctl --failed --no-pager").stdout
        assert host.run("cat /proc/1/comm; hostname").stdout.split() == ["systemd", host.name]


def test_nothing_of_the_machine_runs_or_shows_on_a_host(a: Host) -> None:
    services = a.run("systemctl list-units --type=service --state=running --plain --no-legend").stdout
    names = {line.split()[0].removesuffix(".service") for line in services.splitlines()}
    bare = {"dbus", "ssh", "systemd-journald", "systemd-logind", "systemd-machined"}
    assert bare - {"systemd-machined"} <= names <= bare
    assert a.run("ls /home /mnt /opt /srv /usr/local/bin /var/lib/reconciler").stdout.count("\n\n") == 5
    assert set(a.run("ls -A /root").stdout.split()) == {".ssh"}


def test_two_hosts_differ_in_machine_id_boot_id_and_host_key(a: Host, b: Host) -> None:
    ids = "cat /etc/machine-id /proc/sys/kernel/random/boot_id"
    assert not set(a.run(ids).stdout.split()) & set(b.run(ids).stdout.split())
    assert a.host_key != b.host_key


def test_fabric_logs_in_with_a_strict_host_key_check(lab: Lab, a: Host) -> None:
    with connect(a, lab.key, a.host_key) as connection:
        assert connection.run("hostname; id -u", hide=True, in_stream=False).stdout.split() == ["a", "0"]


def test_fabric_refuses_a_host_with_the_key_of_another(lab: Lab, a: Host, b: Host) -> None:
    with connect(a, lab.key, b.host_key) as connection, pytest.raises(paramiko.BadHostKeyException):
        connection.open()


def test_hosts_reach_each_other_and_the_router(a: Host, b: Host) -> None:
    ping(a, b.address)
    ping(b, a.address)
    ping(a, ROUTER)
    ping(a, "fe80::1%eth1")


def test_an_address_that_a_host_adds_from_an_onlink_prefix_answers_the_router(a: Host) -> None:
    a.run("ip addr add 2001:db8:ca00::7/128 dev eth0 nodad")
    with socket.create_connection(("2001:db8:ca00::7", 22), timeout=3) as connection:
        assert connection.recv(4) == b"SSH-"


def test_hosts_have_no_ipv4_but_their_own_loopback(a: Host) -> None:
    assert a.run("ip -4 -br addr").stdout.split() == ["lo", "UNKNOWN", "127.0.0.1/8"]


def test_the_tools_of_a_host_work(a: Host) -> None:
    a.run("machinectl list; /usr/bin/python3 -c 'import json'")
    a.run("nft -f - && nft list table inet lab", input="add table inet lab\n")


def test_a_script_that_fails_is_told_with_its_output(a: Host) -> None:
    with pytest.raises(LabError, match="(?s)exit 1 on host a.*before"):
        a.run("echo before; false; echo after")
    assert a.run("exit 5", check=False).returncode == 5


def test_a_restart_keeps_the_disk_and_the_cards_and_nothing_else(b: Host) -> None:
    boot, mac = b.run("cat /proc/sys/kernel/random/boot_id /sys/class/net/eth0/address").stdout.split()
    b.run("touch /etc/kept /srv/kept /var/lib/reconciler/kept /run/lost; ip link add lost type bridge")
    b.run("ip addr add 2001:db8:ffff:ca::dead/64 dev eth0; nft add table inet lost; ip netns add lost")
    b.restart()
    assert b.run("cat /proc/sys/kernel/random/boot_id").stdout.strip() != boot
    assert b.run("cat /sys/class/net/eth0/address").stdout.strip() == mac
    b.run("ls /etc/kept /srv/kept /var/lib/reconciler/kept; ! ls /run/lost")
    left = b.run("ip -br addr; nft list ruleset; ip netns").stdout
    assert "lost" not in left and "dead" not in left
    assert b.run("ip -6 route show default").stdout.startswith(f"default via {ROUTER}")


def test_a_unit_that_was_enabled_starts_by_itself_after_a_restart(b: Host) -> None:
    unit = "[Service]\nType=oneshot\nExecStart=/usr/bin/touch /run/started\n[Install]\nWantedBy=sysinit.target\n"
    b.run("cat >/etc/systemd/system/mark.service; systemctl enable mark.service", input=unit)
    b.restart()
    b.run("systemctl is-system-running --wait; test -e /run/started")


# nspawn 252 cannot join a named network namespace from a private user namespace (systemd issue 36363),
# so the unit joins it first
JAIL = textwrap.dedent("""\
    [Service]
    Type=notify
    Slice=machine.slice
    Delegate=yes
    KillMode=mixed
    NetworkNamespacePath=/run/netns/x
    ExecStart=/usr/bin/systemd-nspawn --quiet --machine=jail --keep-unit --directory=/var/lib/reconciler/root \
        --private-users=pick --private-users-ownership=map --bind-ro=/usr --bind=/srv/data:/srv:idmap \
        --as-pid2 --resolv-conf=off --timezone=off --link-journal=no \
        /bin/sh -c 'touch /srv/new; exec sleep 1000'
    MemoryMax=64M
    MemorySwapMax=0
    TasksMax=40
    """)
JAIL_ROOT = """
mkdir -p /srv/data /var/lib/reconciler/root; cd /var/lib/reconciler/root
mkdir dev etc proc run srv sys tmp usr var; ln -s usr/bin usr/lib usr/lib64 usr/sbin .; touch etc/os-release
ip netns add x; ip -n x link set lo up
cat >/etc/systemd/system/jail.service; systemctl start jail
"""


def test_an_nspawn_machine_runs_with_mapped_users_its_network_and_its_limits(a: Host) -> None:
    a.run(JAIL_ROOT, input=JAIL)
    assert a.run("machinectl list --no-legend").stdout.split()[:3] == ["jail", "container", "systemd-nspawn"]
    leader = a.run("machinectl show jail -p Leader --value").stdout.strip()
    assert int(a.run(f"cat /proc/{leader}/uid_map").stdout.split()[1]) >= 0x10000
    a.run(f"test /proc/{leader}/ns/net -ef /run/netns/x")
    a.run("for i in $(seq 50); do [ -e /srv/data/new ] && break; sleep 0.1; done")
    assert a.run("stat -c %u /srv/data/new").stdout == "0\n"  # idmapped: root there is root here, on this folder
    assert a.run("systemctl show jail -p MemoryMax --value").stdout == f"{64 << 20}\n"
    a.run("systemctl stop jail; ! machinectl show jail")


def test_a_unit_dies_when_it_takes_more_memory_than_its_limit(a: Host) -> None:
    a.run(
        "systemd-run --quiet --unit=hog -p MemoryMax=64M -p MemorySwapMax=0 -p RemainAfterExit=yes"
        " /usr/bin/python3 -c 'x = bytes([1]) * (200 << 20)'"
    )
    a.run("for i in $(seq 50); do systemctl is-failed --quiet hog && break; sleep 0.1; done")
    # systemd tells the reason only on cgroup v2: "oom-kill"; on v1 it sees no more than the signal
    assert a.run("systemctl show hog -p Result --value").stdout.strip() in {"oom-kill", "signal"}
    assert a.run("systemctl show hog -p ExecMainStatus --value").stdout == f"{int(signal.SIGKILL)}\n"


def traces() -> tuple[str, ...]:
    """All that a lab could leave behind outside its folder."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    names = "\n".join(sorted(line.split("@")[0].split()[0] for line in links.splitlines()))
    namespaces = "\n".join(sorted(os.listdir("/run/netns")))
    # not rglob: it fails when a cgroup of somebody else goes away meanwhile
    folders = (folder for folder, _, _ in os.walk("/sys/fs/cgroup"))
    groups = "\n".join(sorted(folder for folder in folders if os.environ["RECONCILER_LAB_ID"] in folder))
    return Path("/proc/self/mountinfo").read_text(), names, namespaces, groups


@pytest.mark.parametrize("init", ["systemd", "sshd"])
def test_everything_is_gone_after_exit_even_when_a_test_failed(tmp_path: Path, init: Init) -> None:
    before = traces()
    with pytest.raises(ZeroDivisionError), Lab(tmp_path) as lab:
        lab.segment("other", router=["2001:db8:ffff:cb::1/64"])
        host = lab.host("c", {"eth0": Nic("other", ("2001:db8:ffff:cb::c/64",))}, init=init)
        lab.up()
        pid = host.pid
        assert traces() != before
        raise ZeroDivisionError
    assert traces() == before
    assert not Path(f"/proc/{pid}").exists()


def test_a_host_that_cannot_boot_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.segment("other", router=["2001:db8:ffff:cb::1/64"])
        host = lab.host("c", {"eth0": Nic("other", ("2001:db8:ffff:cb::c/64",))}, init="sshd")
        (host.folder / "upper/etc/ssh/sshd_config").write_text("Nonsense yes\n")
        with pytest.raises(LabError, match="(?s)host c is not running.*Nonsense"):
            lab.up()


def test_a_lab_does_not_start_outside_the_entered_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RECONCILER_LAB")
    with pytest.raises(LabError, match=r"enter\.sh"), Lab(tmp_path):
        pass
