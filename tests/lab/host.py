"""One lab host: a disk, a network and a PID 1 that can be started, restarted, entered and stopped.

In: a plan (name, nics, routes, init, what of this machine is shown), its wired links, a folder, a cgroup name.
Out: a running sshd on [::]:22 of its first address, and `run`, which enters the host without ssh.
Every wait is bounded and its error carries the end of the host's log. Must not know the product.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import cgroups, disk, network
from .network import Link, Nic

Init = Literal["systemd", "sshd"]

HERE = Path(__file__).resolve().parent
COMMANDS: Mapping[Init, tuple[str, ...]] = {
    "systemd": ("env", "container=lab", "/lib/systemd/systemd"),
    "sshd": ("/usr/sbin/sshd", "-D", "-e"),
}
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
}


class LabError(Exception):
    """The lab itself failed, not the thing under test."""


@dataclass(frozen=True)
class HostPlan:
    name: str
    nics: Mapping[str, Nic]
    routes: tuple[str, ...]
    init: Init
    shown: Mapping[str, Path]


class Host:
    def __init__(self, plan: HostPlan, folder: Path, links: Sequence[Link], unique: str, login_key: str) -> None:
        self.plan = plan
        self.folder = folder
        self.host_key = disk.make_disk(folder, plan.name, login_key)
        self._links = tuple(links)
        self._unique = unique  # names its network namespace and its cgroups
        self._cgroups: tuple[Path, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def address(self) -> str:
        for nic in self.plan.nics.values():
            for address in nic.addresses:
                return address.split("/")[0]
        raise LabError(f"host {self.name} has no address")

    @property
    def started(self) -> bool:
        return self._process is not None

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        """Starts PID 1 and returns at once; see `wait`."""
        if self._process:
            raise LabError(f"host {self.name} is already started")
        systemd = self.plan.init == "systemd"
        disk.prepare_boot(self.folder, disk.shown(self.plan.shown) + (cgroups.fstab() if systemd else ""))
        network.add_host_network(self._unique, self._links, self.plan.routes)
        if systemd:
            self._cgroups = cgroups.create(self._unique)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [HERE / "boot.sh", self.folder, self._unique, self.name, *COMMANDS[self.plan.init]],
                env=os.environ | {"LAB_CGROUPS": " ".join(map(str, self._cgroups))},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the tests, which then stop the host
            )

    def wait(self, timeout: float = 20) -> None:
        """Returns when sshd greets."""
        deadline = time.monotonic() + timeout
        while not self._greets():
            if self._process is None or self._process.poll() is not None:
                raise LabError(f"host {self.name} is not running{self._log_tail()}")
            if time.monotonic() > deadline:
                raise LabError(f"no ssh on host {self.name} within {timeout} s{self._log_tail()}")
            time.sleep(0.02)

    def run(
        self, script: str, *, check: bool = True, timeout: float = 30, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Runs a bash script (with -e) as root in the namespaces of PID 1: no ssh, no product in between."""
        enter = ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        try:
            done = subprocess.run(
                [*enter, "bash", "-e", "-c", script],
                input=input,
                env=ENVIRONMENT,
                text=True,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"no end within {timeout} s on host {self.name}:\n{script}") from error
        if check and done.returncode:
            raise LabError(f"exit {done.returncode} on host {self.name}:\n{script}\n{done.stdout}{done.stderr}")
        return done

    def restart(self, timeout: float = 20) -> None:
        """Pulls the plug and boots again from the same disk; returns when sshd greets."""
        self.stop()
        self.start()
        self.wait(timeout)

    def stop(self) -> None:
        """Kills PID 1 and with it all of the host but its disk; a host that is stopped stays so."""
        try:
            if self._process:
                # PID 1 itself: its parent then ends when all of the host is gone, not before
                if init := self._init():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(init, signal.SIGKILL)
                else:
                    self._process.kill()
                self._process.wait(10)
                self._process = None
        finally:
            network.remove_host_network(self._unique, self._links)
        cgroups.remove(self._cgroups)
        self._cgroups = ()

    @property
    def pid(self) -> int:
        """PID 1 of the host, as numbered in the lab."""
        pid = self._init()
        if pid is None:
            raise LabError(f"host {self.name} is not running")
        return pid

    def _init(self) -> int | None:
        if self._process is None or self._process.poll() is not None:
            return None
        unshare = self._process.pid
        children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()
        return int(children[0]) if children else None

    def _greets(self) -> bool:
        try:
            with socket.create_connection((self.address, 22), timeout=1) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def _log_tail(self) -> str:
        text = "\n".join(self.log.read_text(errors="replace").splitlines()[-30:]) if self.log.exists() else ""
        if self.plan.init == "systemd":
            try:
                text += "\n" + self.run("journalctl -b -n 40 --no-pager", check=False, timeout=5).stdout
            except (LabError, OSError, subprocess.SubprocessError):
                text += "\n(no journal: PID 1 is gone)"
        return f"; the end of its log:\n{text.strip() or '(empty)'}"
