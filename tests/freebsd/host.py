"""A real FreeBSD host as its administrator has it: commands over the system's own ssh, and how it looks.

In: RECONCILER_FREEBSD_SSH and RECONCILER_FREEBSD_KEY. Out: `Done` for every command (all are kept in `journal`, which a
failing test prints), `look` for comparing (see look.py), `snapshot` for people. Nothing of the product is used here.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv6Address
from pathlib import Path

from .look import LOOK, sections
from .relay import Relay

SSH, KEY = "RECONCILER_FREEBSD_SSH", "RECONCILER_FREEBSD_KEY"
SLOW = 300.0
"""Seconds for a command: the host may be emulated, where one takes half a second and twenty take ten."""
ALIAS = "freebsd-under-test"
# root's shell may be csh, where a newline or a `!` within quotes is an error: the script comes on standard input. The
# exit status is printed by the host itself, because ssh says 255 of its own failures and of some commands' as well.
RUN = (
    "exec env -i PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/root LC_ALL=C "
    """/bin/sh -c 'text=$(cat); (eval "$text") </dev/null; status=$?; echo; echo "~exit $status"'"""
)

SNAPSHOT = r"""
show() { echo; echo "## $*"; sh -c "$*" 2>&1; }
show uname -a
show ifconfig -a
show jls -dv
show mount -p
show 'pfctl -si | head -n 1; pfctl -sr; pfctl -sn; pfctl -ss | head -n 30'
show rctl
show netstat -rn -f inet6
show sysctl kern.racct.enable net.inet6.ip6.forwarding net.inet.ip.forwarding net.link.bridge
show 'for jail in $(jls name); do echo "-- $jail"; jexec $jail ifconfig -a; jexec $jail netstat -rn -f inet6; done'
show 'for n in $(devfs rule showsets); do [ $n -lt 6 ] || { echo "-- ruleset $n"; devfs rule -s $n show; }; done'
show ls -lR /etc/reconciler
show 'ls -l /usr/local/etc/rc.d; cat /var/lib/reconciler/inventory | cut -c 1-200'
show 'ps -axdo jid,pid,stat,command | grep -v "\[" | tail -n 60'
show 'for log in /var/log/reconciler/*.log; do echo "-- $log"; tail -n 25 "$log"; done'
show tail -n 40 /var/log/messages
"""


@dataclass(frozen=True)
class Target:
    """`root@host:port`; an IPv6 address with a port stands in brackets."""

    host: str
    port: int

    @property
    def literal(self) -> str:
        """Its IPv6 address, which is what a Host document takes; "" where it is another one, or a name of any."""
        try:
            return str(IPv6Address(self.host))
        except ValueError:
            return ""


def target(text: str) -> Target:
    match = re.fullmatch(r"root@(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:@]+))(?::(\d+))?", text)
    if match is None:
        raise ValueError(f"{SSH} is {text!r}, not root@host:port, root@[IPv6]:port or root@host")
    return Target(match[1] or match[2], int(match[3] or 22))


@dataclass(frozen=True)
class Done:
    """A command that ended. Its repr is what a failing assertion shows."""

    command: str
    code: int
    out: str
    err: str = ""

    def __repr__(self) -> str:
        return f"\n$ {self.command.strip()}\nexit status {self.code}\n{self.out}{self.err and f'(stderr) {self.err}'}"


@dataclass
class Host:
    target: Target
    key: Path
    known_hosts: Path
    host_key: str = ""
    journal: deque[Done] = field(default_factory=lambda: deque(maxlen=12))

    @cached_property
    def way(self) -> tuple[str, int]:
        """Where the reconciler reaches it."""
        if self.target.literal:
            return self.target.literal, self.target.port
        return "::1", Relay((self.target.host, self.target.port)).port

    def learn(self) -> None:
        """Its key, once; from then on no other one is accepted, neither here nor by the reconciler."""
        where = ["-p", str(self.target.port), self.target.host]
        for kind in ("ed25519", "ecdsa", "rsa"):
            done = self.call(["ssh-keyscan", "-T", "60", "-t", kind, *where], timeout=90)
            lines = [line.split() for line in done.out.splitlines() if line and not line.startswith("#")]
            if lines:
                self.host_key = " ".join(lines[0][1:3])
                self.known_hosts.write_text(f"{ALIAS} {self.host_key}\n")
                return
        raise AssertionError(f"no sshd answers at {self.target}: {done}")

    def call(
        self,
        words: list[str],
        *,
        text: str = "",
        timeout: float = SLOW,
        told: str = "",
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Done:
        """A command of this machine. `told` is what a failing test shows for it."""
        told = told or shlex.join(words)
        given = {"input": text, "timeout": timeout, "cwd": folder, "env": environment}
        try:
            ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, **given)
            done = Done(told, ended.returncode, ended.stdout, ended.stderr)
        except subprocess.TimeoutExpired as slow:
            out, err = (part.decode(errors="replace") if part else "" for part in (slow.stdout, slow.stderr))
            done = Done(told, -1, out, f"{err}\n(not within {timeout:.0f} seconds)")
        self.journal.append(done)
        return done

    def run(self, script: str, *, check: bool = True, timeout: float = SLOW) -> Done:
        """A script for the host's sh, on a connection of its own."""
        done = self.attempt(script, timeout)
        if done.code == 255 and not done.out and "onnect" in done.err:
            # a firewall that is being turned on may drop a connection: once more, then
            done = self.attempt(script, timeout)
        told = self.ended(script, done)
        assert not check or told.code == 0, str(told)
        return told

    def attempt(self, script: str, timeout: float) -> Done:
        options = ["BatchMode=yes", "IdentitiesOnly=yes", "ControlMaster=no", "ControlPath=none", "ConnectTimeout=60"]
        options += ["StrictHostKeyChecking=yes", f"UserKnownHostsFile={self.known_hosts}", f"HostKeyAlias={ALIAS}"]
        options += ["ServerAliveInterval=20", "ServerAliveCountMax=6", "LogLevel=ERROR"]
        words = ["ssh", "-F", "/dev/null", "-i", str(self.key), "-p", str(self.target.port)]
        words += [word for option in options for word in ("-o", option)]
        return self.call([*words, f"root@{self.target.host}", RUN], text=script, timeout=timeout, told=script)

    def ended(self, script: str, done: Done) -> Done:
        """With the host's own exit status; -1 when the connection did not live to tell it."""
        out, marker, code = done.out.rpartition("\n~exit ")
        told = Done(script, int(code), out, done.err) if marker and code.strip().isdigit() else done
        if told is done and done.code != -1:
            told = Done(script, -1, done.out, f"{done.err}(the connection broke: ssh exited with {done.code})")
        self.journal[-1] = told
        return told

    def out(self, script: str) -> str:
        return self.run(script).out.strip()

    # ── how it looks ─────────────────────────────────────────────────────────────────────────────────────────

    def look(self) -> dict[str, str]:
        """Everything that should be the same after something was mended or removed, normalised; by section."""
        done = self.run(LOOK, timeout=2 * SLOW)
        self.journal[-1] = Done("(a look at the whole host)", done.code, "…\n")
        return sections(done.out)

    def snapshot(self) -> str:
        """For people, when a test failed."""
        told = self.ended(SNAPSHOT, self.attempt(SNAPSHOT, 2 * SLOW))
        self.journal.pop()
        return told.out + told.err

    def told(self) -> str:
        """The last commands, oldest first."""
        return "\n".join(repr(done) for done in self.journal)


def from_environment(folder: Path, environment: Mapping[str, str] = os.environ) -> Host:
    key = Path(environment[KEY]).expanduser().absolute()
    assert key.is_file(), f"{KEY} names {key}, where no private key is"
    return Host(target(environment[SSH]), key, folder / "known_hosts")
