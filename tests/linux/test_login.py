"""Root does not log in to host `a`: an account does, and one rule of sudo's (or doas's) makes it root.

That all else works through it is what the other tests with `a` show, for it is so for all of them. Here are the rule
itself, what it does not give, and what is said without it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

import rules
from lab import Host
from reconciler.platforms import PLATFORMS
from reconciler.remote import Credentials, Remote, RemoteFailure

from .test_remote import script
from .world import World

AS_ACCOUNT = "setpriv --reuid reconciler --regid reconciler --clear-groups"
SECRET = "/var/lib/reconciler/jails/acme--db/secrets/db-password"
LOGS = PLATFORMS["linux"].logs("acme--www", False)


@pytest.fixture
def way(world: World) -> Iterator[Remote]:
    remote = world.remote("a")
    yield remote
    remote.close()


@contextmanager
def instead(host: Host, text: str) -> Iterator[None]:
    """These lines are what sudo reads of ours."""
    host.run(f"cat >{rules.RULE}", input=text)
    try:
        yield
    finally:
        host.run(f"cat >{rules.RULE}", input=f"{rules.SUDO}\n")


def test_root_is_not_let_in(world: World, way: Remote) -> None:
    assert way.run(script("id -un")) == b"root\n"
    root = Remote(replace(way.ssh, user="root"), way.credentials, way.as_root)
    with pytest.raises(RemoteFailure, match="does not let the key .* in as root"):
        root.run(script("echo never"))


def test_sudo_finds_nothing_to_say_about_the_rule(a: Host) -> None:
    assert (
        a.run(f"visudo -cf {rules.RULE}; stat -c '%a %U' {rules.RULE}").stdout == f"{rules.RULE}: parsed OK\n440 root\n"
    )


@pytest.mark.parametrize("command", ["id", "bash -c id", "-u nobody /bin/sh -c id", "-g root /bin/sh -c id"])
def test_the_rule_gives_one_command_of_one_user(a: Host, command: str) -> None:
    assert a.run(f"{AS_ACCOUNT} sudo -n /bin/sh -c 'id -un'").stdout == "root\n"
    done = a.run(f"{AS_ACCOUNT} sudo -n {command}", check=False)
    assert (done.returncode, done.stdout) == (1, ""), done


@pytest.mark.parametrize("command", [f"cat {SECRET}", "ls /etc/reconciler", "touch /etc/reconciler/hold"])
def test_without_the_rule_the_account_is_nobody(world: World, a: Host, command: str) -> None:
    denied = a.run(f"{AS_ACCOUNT} {command}", check=False)
    assert denied.returncode and "Permission denied" in denied.stderr
    assert a.run(f"cat {SECRET}; ls /etc/reconciler").stdout


def test_a_rule_that_is_taken_away_ends_it_at_once_and_the_status_says_what_is_missing(world: World, a: Host) -> None:
    assert not world.reconcile("a").unreachable
    with instead(a, ""):
        report = world.reconcile("a")
    assert "lets reconciler in and not become root (sudo: a password is required)" in report.unreachable
    assert "README.md" in report.unreachable
    assert world.reconcile("a").ready


REFUSALS: dict[str, tuple[str, str]] = {
    "another command": ("reconciler ALL=(root) NOPASSWD: /bin/true", "sudo: a password is required"),
    "a password is asked for": ("reconciler ALL=(root) /bin/sh", "sudo: a password is required"),
    "no terminal": (f"Defaults requiretty\n{rules.SUDO}", "sudo: sorry, you must have a tty to run sudo"),
    "a rule that is none": ("reconciler ALL=(root NOPASSWD: /bin/sh", "sudo: a password is required"),
}


@pytest.mark.parametrize(("rule", "says"), REFUSALS.values(), ids=REFUSALS)
def test_what_sudo_refuses_is_told_in_words(way: Remote, a: Host, rule: str, says: str) -> None:
    with instead(a, f"{rule}\n"):
        for attempt in attempts(way):
            with pytest.raises(
                RemoteFailure, match=rf"not become root \({says}\): the host needs the rule for /usr/bin"
            ):
                attempt()
    assert way.run(script("id -u")) == b"0\n"


def attempts(way: Remote) -> list[Callable[[], object]]:
    return [
        lambda: way.run(script("echo never")),
        lambda: way.send(io.BytesIO(b"x" * 300_000), "/root/never"),
        lambda: list(way.stream(LOGS)),
    ]


def test_a_host_without_sudo_is_told_in_words(way: Remote, a: Host) -> None:
    a.run("mv /usr/bin/sudo /usr/bin/sudo.away")
    try:
        with pytest.raises(RemoteFailure, match="not become root .*/usr/bin/sudo: .*the host needs the rule"):
            way.run(script("echo never"))
    finally:
        a.run("mv /usr/bin/sudo.away /usr/bin/sudo")


def test_a_script_that_fails_is_no_matter_of_the_rule(way: Remote, a: Host) -> None:
    """Although sudo has something to say first, of a host whose name it does not find."""
    a.run("hostname nowhere")
    try:
        with pytest.raises(RemoteFailure, match=r"status 5 on .*: sudo: unable to resolve host nowhere: .*\nno luck"):
            way.run(script("echo no luck >&2", "exit 5"))
    finally:
        a.run("hostname a")


def test_logs_are_read_as_root(way: Remote) -> None:
    assert b"".join(way.stream(LOGS))


def test_what_else_sudo_is_told_changes_nothing_and_every_use_is_logged_without_a_secret(world: World, a: Host) -> None:
    """Least of all that it is to record what goes in: secrets do."""
    world.secret("acme", "db-password", b"hunter3hunter3")
    with instead(a, f"Defaults use_pty, !env_reset, !secure_path, log_input, log_output, !compress_io\n{rules.SUDO}\n"):
        world.converge("a")
    assert a.run(f"cat {SECRET}").stdout == "hunter3hunter3"
    assert a.run("grep -rls hunter3 /var/log /home /tmp || true").stdout == ""
    log = a.run("journalctl -q -b --no-pager").stdout
    assert "reconciler : PWD=/home/reconciler ; USER=root ; COMMAND=/bin/sh -c 'exec /usr/bin/env -i PATH=" in log
    assert "hunter3" not in log


# ── doas, as a FreeBSD host has it ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def by_doas(world: World, a: Host) -> Iterator[Remote]:
    """Debian's own is of the same family as FreeBSD's; only the places are others."""
    a.run("ln -s /usr/bin/doas /usr/local/bin/doas; cat >/etc/doas.conf", input=f"{rules.DOAS}\n")
    remote = Remote(world.fleet.hosts["a"].ssh, Credentials(world.lab.key), PLATFORMS["freebsd"].AS_ROOT)
    yield remote
    remote.close()
    a.run("rm -f /usr/local/bin/doas /etc/doas.conf")


def test_doas_does_what_sudo_does(by_doas: Remote, a: Host) -> None:
    assert by_doas.run(script("echo $HOME-$LC_ALL-$PATH; umask; id -u")) == (
        b"/root-C-/usr/sbin:/usr/bin:/sbin:/bin\n0077\n0\n"
    )
    by_doas.send(io.BytesIO(b"\0" * 3_000_000), "/root/incoming/it's a file")
    assert a.run("stat -c '%s %a %U' /root/incoming/*; rm -r /root/incoming").stdout == "3000000 600 root\n"
    assert b"".join(by_doas.stream("cat /etc/shadow"))
    with pytest.raises(RemoteFailure, match=r"status 5 on .*: no luck"):
        by_doas.run(script("echo no luck >&2", "exit 5"))
    assert a.run(f"{AS_ACCOUNT} doas -n id", check=False).returncode == 1
    assert a.run(f"{AS_ACCOUNT} doas -n -u nobody /bin/sh -c id", check=False).returncode == 1


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("", "doas: Operation not permitted"),
        ("permit reconciler as root cmd /bin/sh\n", "doas: Auth[a-z]+ required"),
        (f"{rules.DOAS}\ndeny reconciler\n", "doas: Operation not permitted"),
        (rules.DOAS, "doas: syntax error at line 1"),
    ],
    ids=["no rule", "a password is asked for", "the last rule holds", "no line break at its end"],
)
def test_what_doas_refuses_is_told_in_words(by_doas: Remote, a: Host, rule: str, says: str) -> None:
    a.run("cat >/etc/doas.conf", input=rule)
    for attempt in attempts(by_doas):
        with pytest.raises(RemoteFailure, match=rf"not become root \({says}\): the host needs the rule for /usr/local"):
            attempt()


def test_a_host_without_doas_is_told_in_words(by_doas: Remote, a: Host) -> None:
    a.run("rm /usr/local/bin/doas")
    with pytest.raises(RemoteFailure, match="not become root .*/usr/local/bin/doas: .*the host needs the rule"):
        by_doas.run(script("echo never"))
