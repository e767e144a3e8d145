"""The way to a host: pinned keys, dead connections, two applies at once, the hold file, and hosts that are away."""

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from paramiko import Transport

from lab import Host
from lab.disk import make_key
from reconciler import remote
from reconciler.config import Config, DaemonConfig, SourceConfig, SshConfig
from reconciler.model import Ssh
from reconciler.passes import Station
from reconciler.platforms import PLATFORMS
from reconciler.platforms.steps import COMPLETE, REMOVE_ITSELF
from reconciler.remote import APPLY, Credentials, Remote, RemoteFailure
from reconciler.wire import ShellWire

from .world import World

SUDO = PLATFORMS["linux"].AS_ROOT
BUSY = "customers/kiln/jails/www.yaml"


def script(*lines: str) -> str:
    return "\n".join([REMOVE_ITSELF, *lines, COMPLETE, ""])


@pytest.fixture
def ssh(world: World) -> Ssh:
    return world.fleet.hosts["a"].ssh


@pytest.fixture
def way(world: World, ssh: Ssh) -> Remote:
    return Remote(ssh, Credentials(world.lab.key), SUDO)


@pytest.mark.parametrize(("name", "home"), [("a", "/home/reconciler"), ("b", "/root")])
def test_a_script_runs_by_sh_with_an_environment_of_our_own(world: World, name: str, home: str) -> None:
    world[name].run(f"echo 'export LEAK=1 HOME=/; umask 0' >{home}/.bashrc")
    try:
        said = world.remote(name).run(script("echo $LEAK-$HOME-$LC_ALL; ps -o comm= -p $$; umask; id -u")).decode()
    finally:
        world[name].run(f"rm {home}/.bashrc")
    assert said.split() == ["-/root-C", "sh", "0077", "0"]


def test_a_host_with_another_key_is_not_spoken_to(world: World, ssh: Ssh) -> None:
    other = Remote(replace(ssh, host_key=world["b"].host_key), Credentials(world.lab.key), SUDO)
    with pytest.raises(RemoteFailure, match=r"shows the host key ssh-ed25519 .*correct spec\.ssh\.hostKey"):
        other.run(script("echo never"))


def test_a_host_whose_pinned_key_is_of_another_kind_is_not_spoken_to(world: World, ssh: Ssh, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "k"], check=True)
    key = " ".join((tmp_path / "k.pub").read_text().split()[:2])
    with pytest.raises(RemoteFailure):
        Remote(replace(ssh, host_key=key), Credentials(world.lab.key), SUDO).run(script("echo never"))


@pytest.mark.parametrize("key", ["ssh-ed25519 AAAA", "ssh-ed25519 ", "nonsense", ""])
def test_a_pinned_key_that_is_no_key_is_a_failure_in_words(world: World, ssh: Ssh, key: str) -> None:
    with pytest.raises(RemoteFailure, match="host key"):
        Remote(replace(ssh, host_key=key), Credentials(world.lab.key), SUDO).run(script("echo never"))


def test_a_key_that_the_host_does_not_know_is_refused(world: World, ssh: Ssh, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger", "stranger")
    with pytest.raises(RemoteFailure, match=r"does not let the key .* in as reconciler"):
        Remote(ssh, Credentials(tmp_path / "stranger"), SUDO).run(script("echo never"))


def test_an_attempt_that_fails_leaves_no_connection_and_no_thread(world: World, ssh: Ssh, tmp_path: Path) -> None:
    make_key(tmp_path / "stranger", "stranger")
    wrong = Remote(replace(ssh, host_key=world["b"].host_key), Credentials(world.lab.key), SUDO)
    unknown = Remote(ssh, Credentials(tmp_path / "stranger"), SUDO)
    before = set(threading.enumerate())
    gc.disable()
    try:
        for way in (wrong, unknown):
            with pytest.raises(RemoteFailure):
                way.run(script("echo never"))
        for thread in set(threading.enumerate()) - before:
            thread.join(5)
            assert not thread.is_alive()
    finally:
        gc.enable()


def test_a_host_has_one_connection_until_it_is_let_go(world: World, ssh: Ssh, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", "--bare", tmp_path / "config.git"], check=True)
    source, cache = SourceConfig(str(tmp_path / "config.git")), DaemonConfig(str(tmp_path / "cache"))
    station = Station(Config(source, ssh=SshConfig(str(world.lab.key)), daemon=cache))
    spec, other = world.fleet.hosts["a"], replace(ssh, address=ip_address(ssh.address).exploded)
    before = set(threading.enumerate())

    def lines() -> int:
        return len([t for t in set(threading.enumerate()) - before if isinstance(t, Transport) and t.active])

    for wanted in (spec, spec, replace(spec, ssh=other)):
        assert station.remote(wanted).run(script("echo well")) == b"well\n"
        assert lines() == 1
    station.let_go("a")
    assert lines() == 0


def test_a_key_that_is_not_there_is_a_failure_in_words(ssh: Ssh, tmp_path: Path) -> None:
    with pytest.raises(RemoteFailure, match="missing"):
        Remote(ssh, Credentials(tmp_path / "missing"), SUDO).run(script("echo never"))


def test_a_host_that_is_away_is_a_report_and_no_exception(world: World) -> None:
    world.wire("a").remote.close()
    world["a"].stop()
    try:
        report = world.reconcile("a")
        assert "cannot reach [2001:db8:ffff:ca::a]:22" in report.unreachable
        assert not report.ready
    finally:
        world["a"].start()
        world["a"].wait()
    report = world.reconcile("a")
    assert report.ready, report


def test_a_connection_that_broke_between_two_passes_is_opened_again(world: World) -> None:
    world.reconcile("a")
    world["a"].run("pkill -f '[s]shd: reconciler' || true")
    assert world.reconcile("a").ready
    world["a"].restart()
    assert not world.reconcile("a").unreachable
    world.converge("a")


def test_a_script_that_arrives_in_part_is_not_run(way: Remote, a: Host) -> None:
    with pytest.raises(RemoteFailure, match="status 97"):
        way.run("touch /root/ran\n")
    assert a.run("ls /root; ls /tmp | grep tmp || true").stdout == ""


def test_a_transfer_that_breaks_off_leaves_nothing(way: Remote, a: Host) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("the disk is gone")

    with pytest.raises(RemoteFailure, match="the disk is gone"):
        way.send(Broken(), "/root/incoming/x")  # type: ignore[arg-type]
    assert a.run("sleep 1; ls /root/incoming").stdout == ""
    way.send(io.BytesIO(b"\0" * 3_000_000), "/root/incoming/it's a file")
    assert (
        a.run("stat -c '%s %a %U' \"/root/incoming/it's a file\"; rm -r /root/incoming").stdout == "3000000 600 root\n"
    )


def test_a_script_that_fails_is_told_with_its_words(way: Remote) -> None:
    with pytest.raises(RemoteFailure, match=r"status 5 on .*: no luck"):
        way.run(script("echo no luck >&2", "exit 5"))


def test_a_script_that_talks_much_on_standard_error_does_not_hang(way: Remote) -> None:
    said = way.run(script("head -c 8000000 /dev/zero | tr '\\0' x >&2", "echo done"), timeout=20)
    assert said == b"done\n"


def test_a_host_that_talks_without_end_is_not_believed(way: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MOST", 1 << 20)
    with pytest.raises(RemoteFailure, match="sent more than"):
        way.run(script("cat /dev/zero"))
    assert way.run(script("echo well")) == b"well\n"


def test_a_script_that_says_nothing_for_too_long_is_given_up(way: Remote) -> None:
    with pytest.raises(RemoteFailure):
        way.run(script("sleep 60"), timeout=0.5)
    assert way.run(script("echo well")) == b"well\n"


def test_a_script_that_trickles_for_too_long_is_given_up(way: Remote) -> None:
    with pytest.raises(RemoteFailure):
        way.run(script("while echo x; do sleep 0.1; done"), timeout=0.6)


class Cut:
    """Breaks the connection when an apply is under way."""

    def __init__(self, inner: Remote, host: Host) -> None:
        self.remote, self.host, self.name = inner, host, inner.name

    def run(self, text: str, timeout: float = 0) -> bytes:
        if timeout != APPLY:
            return self.remote.run(text, timeout)
        text = text.replace("step() { :; }", "step() { : >/run/under-way; sleep 0.05; }")
        cutter = threading.Thread(target=self.cut)
        cutter.start()
        try:
            return self.remote.run(text, timeout)
        finally:
            cutter.join()

    def cut(self) -> None:
        self.host.run("for i in $(seq 200); do [ -e /run/under-way ] && break; sleep 0.05; done; rm -f /run/under-way")
        connection = self.remote._connection
        assert connection is not None
        with contextlib.suppress(OSError):
            connection.transport.sock.close()

    def __getattr__(self, name: str) -> object:
        return getattr(self.remote, name)


def test_an_apply_goes_on_to_its_end_when_the_connection_dies(world: World) -> None:
    world.edit(BUSY, parameters={"FOLDER": "elsewhere"}, restart=7)
    wire = world.wire("a")
    whole, wire.remote = wire.remote, Cut(wire.remote, world["a"])  # type: ignore[assignment]
    try:
        report = world.reconcile("a")
    finally:
        wire.remote = whole
    assert "broke" in report.unreachable, report
    world["a"].run("flock -w 30 /run/reconciler/lock true")
    report = world.reconcile("a")
    assert report.ready
    assert not report.done


def test_the_end_of_an_apply_makes_every_look_stale_that_was_taken_while_it_ran(world: World) -> None:
    """What names a state of the inventory is another at the beginning, and again at the end."""
    serial = "sed -n '1s/^# serial //p' /var/lib/reconciler/inventory"
    before = int(world["a"].run(serial).stdout)
    world.edit(BUSY, restart=7)
    assert world.reconcile("a").ready
    assert int(world["a"].run(serial).stdout) == before + 2


def test_two_applies_at_once_do_not_mix(world: World) -> None:
    """The second waits for the lock, sees that the host has changed since it looked, and looks again."""
    world.edit(BUSY, restart=8)
    second = World(world.lab, world.repo, world.garage, world.keys, world.hosts)
    second.wires["a"] = ShellWire(world.remote("a"), PLATFORMS["linux"])
    with ThreadPoolExecutor(2) as pool:
        reports = [future.result() for future in [pool.submit(w.reconcile, "a") for w in (world, second)]]
    for report in reports:
        assert report.ready, report
    restarts = [c for report in reports for c in report.done if c.key.startswith("jail/")]
    assert len(restarts) == 1
    assert not world.words("a")


def test_an_apply_gives_way_to_one_that_holds_the_lock_for_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient = PLATFORMS["linux"].PRELUDE.replace("flock -w 60", "flock -w 0")
    monkeypatch.setattr("reconciler.platforms.linux.PRELUDE", impatient)
    world.edit(BUSY, restart=9)
    world["a"].run("systemd-run --quiet --unit=holder flock /run/reconciler/lock sleep 100; sleep 0.2")
    try:
        assert "another apply holds the host's lock" in world.reconcile("a").refusal
    finally:
        world["a"].run("systemctl stop holder")
    assert world.reconcile("a").ready


def test_a_hold_file_stops_applies_and_says_why(world: World) -> None:
    world.edit(BUSY, restart=10)
    world["a"].run("echo 'disk is being\n\tchanged' >/etc/reconciler/hold")
    report = world.reconcile("a")
    assert "disk is being" in report.hold
    assert report.pending
    assert not report.done
    world["a"].run("rm /etc/reconciler/hold")
    assert world.reconcile("a").ready


def test_a_hold_file_that_appears_after_the_look_stops_the_apply(world: World) -> None:
    world.edit(BUSY, restart=11)
    wire, host = world.wire("a"), world["a"]
    look = wire.observe

    def observe(manifest: object) -> object:
        seen = look(manifest)  # type: ignore[arg-type]
        host.run("echo wait >/etc/reconciler/hold")
        return replace(seen, hold="")

    wire.observe = observe  # type: ignore[method-assign, assignment]
    try:
        assert "hold file" in world.reconcile("a").refusal
    finally:
        del wire.observe
        host.run("rm /etc/reconciler/hold")
    assert world.reconcile("a").ready


def test_a_missing_command_is_a_refusal_in_words(world: World) -> None:
    host = world["a"]
    host.run("mv /usr/bin/setpriv /root/")
    try:
        report = world.reconcile("a")
        assert "setpriv is missing" in report.refusal
        assert not report.done
    finally:
        host.run("mv /root/setpriv /usr/bin/")


def test_a_guard_holds_back_a_plan_that_stops_many_jails_until_it_was_reviewed(world: World) -> None:
    for jail in ("acme/jails/www", "acme/jails/shop", "acme/jails/db", "acme/jails/back-office", "kiln/jails/www"):
        world.edit(f"customers/{jail}.yaml", restart=20)
    report = world.reconcile("a", reviewed=False)
    assert "5 of 5 jails" in report.refusal
    assert not report.done
    report = world.reconcile("a", reviewed=True, digest=report.plan)
    assert report.ready, report


def test_no_secret_is_left_in_temporary_files(world: World) -> None:
    world.secret("acme", "db-password", b"hunter2hunter2")
    world.converge("a")
    look = "grep -rls hunter2hunter2 /tmp /var/tmp /run/reconciler /etc /var/lib/reconciler /root /home || true"
    assert sorted(world["a"].run(look).stdout.split()) == [
        f"/var/lib/reconciler/jails/acme--{jail}/secrets/db-password" for jail in ("back-office", "db", "shop")
    ]
