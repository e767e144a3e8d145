"""One pretended FreeBSD host: its state, its files, and running a script on it.

    host = Host(tmp_path)                     # 13.2, root on UFS; pool=True adds a zroot as on the recorded host
    host.write("/etc/jail.conf", "...")       # any path but below /dev and /proc
    done = host.run("jail -c web; jls -N")    # a CompletedProcess of bytes
    host.state()["jails"]                     # what it came to; `with host.changing() as state:` changes it

Scripts run as root under dash, in a root folder of their own (nothing of the machine can be changed), with
PATH=/usr/sbin:/usr/bin:/sbin:/bin. State and files last from one run to the next. Must not know the product.
"""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from . import state as states
from .commands import BASE, BIN, SLOW, STRICT, TABLE
from .fresh import fresh, nic
from .ready import PORT

PACKAGE = Path(__file__).resolve().parent
PYTHON = Path(os.path.realpath(sys.executable))
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "USER": "root", "LC_ALL": "C"}
PROGRAM = """import os, sys
os.environ.pop("LD_LIBRARY_PATH", None)
sys.path.insert(0, "/usr/sbin/.code")
from bsd.commands import main
sys.exit(main(sys.argv[1:]))
"""
COMMAND = """#!/bin/sh
LD_LIBRARY_PATH=/.python/lib exec {python} -SE /usr/sbin/.program "$0" "$@"
"""
"""The interpreter is at another place than it was built for: in a jail the folders of its own place are hidden."""
QUICK = """#!/.machine/bin/bash
exec 4>&1
if {{ read -r port </usr/sbin/.port && exec >"/dev/tcp/127.0.0.1/$port"; }} 2>/dev/null; then
    echo $$
    read -r -u 1 status
    exit "${{status:-70}}"
fi
exec 4>&-
LD_LIBRARY_PATH=/.python/lib exec {python} -SE /usr/sbin/.program "$0" "$@"
"""
"""Asks ready.py, with its own output as descriptor 4: what is redirected only while it speaks may be looked at in that
very moment. What has outlived its run does without."""
FOLDERS = """.machine .python bin dev proc usr/bin usr/sbin/.code/bsd usr/local/etc/rc.d usr/local/sbin
    usr/local/bin tmp root home etc/jail.conf.d etc/rc.conf.d etc/reconciler var/lib/reconciler
    var/run/reconciler/run var/log var/db var/tmp var/backups var/mail jails boot mnt media libexec
    usr/libdata usr/libexec usr/share"""
FILES = {
    "etc/passwd": "root:x:0:0:Charlie &:/root:/bin/sh\nnobody:x:65534:65534:Unprivileged user:/nonexistent:/bin/sh\n",
    "etc/master.passwd": "root::0:0::0:0:Charlie &:/root:/bin/sh\n",
    "etc/group": "wheel:x:0:root\noperator:x:5:root\nstaff:x:20:root\nnobody:x:65534:\n",
    "etc/hosts": "::1\t\t\tlocalhost localhost.my.domain\n127.0.0.1\t\tlocalhost localhost.my.domain\n",
    "etc/services": "ssh\t22/tcp\nhttp\t80/tcp\nhttps\t443/tcp\nhttp-alt\t8080/tcp\n",
    "etc/rc.conf": 'hostname="fbsd13.test"\nifconfig_vtnet0="inet 10.0.2.15 netmask 255.255.255.0"\n'
    'defaultrouter="10.0.2.2"\nsshd_enable="YES"\nzfs_enable="YES"\nsyslogd_flags="-ss"\ncron_enable="NO"\n'
    'dumpdev="NO"\nclear_tmp_enable="YES"\nsavecore_enable="NO"\ndevd_enable="NO"\n',
    "etc/defaults/rc.conf": "",
    "var/log/messages": "",
}


def why_not():
    """The reason why no host can be pretended here, or None: `pytest.mark.skipif(why_not() is not None, ...)`."""
    if os.geteuid() != 0:
        return "needs root, for a private mount namespace"
    if (
        not sys.platform.startswith("linux")
        or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode
    ):
        return "needs Linux that lets root make a mount namespace"
    return None


class Host:
    def __init__(self, folder: Path, release: str = "13.2-RELEASE", pool: bool = False) -> None:
        self.folder = Path(folder)
        self.root = self.folder / "root"
        self.commands = self.root / "usr/sbin"
        if not self.root.exists():
            self._make_root()
            self._make_commands(pool)
            states.save(fresh(release, pool), str(self.commands / ".state.json"))

    def loosen(self) -> None:
        """Takes GNU's tools as they are, with all that only they know: half as many processes start."""
        for name in STRICT:
            place = os.path.realpath(Path("/usr/bin") / name).replace("/usr/", "/.machine/", 1)
            for link in (self.commands / name, self.root / ("bin" if name in BIN else "usr/bin") / name):
                link.unlink()
                link.symlink_to(place)

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────

    def path(self, path: str) -> Path:
        """Where a file of the host is on this machine."""
        return self.root / path.removeprefix("/")

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        place = self.path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        place.chmod(mode)

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    # ── state ────────────────────────────────────────────────────────────────────────────────────────────

    def state(self) -> dict:
        return json.loads((self.commands / ".state.json").read_text())

    def changing(self) -> contextlib.AbstractContextManager[dict]:
        return states.changing(str(self.commands / ".state.json"))

    def add_nic(self, name: str, ether: str) -> None:
        """One more network card, up and without addresses."""
        with self.changing() as state:
            index = states.free_index(state, 0)
            state["interfaces"].append(nic(name, ether, index))

    def install_doas(self, rules: str) -> None:
        """The package, which no host has by itself."""
        place = self.path("/usr/local/bin/doas")
        if not place.is_symlink():
            place.symlink_to("/usr/sbin/.command")
        self.write("/usr/local/etc/doas.conf", rules)

    def die(self, name: str) -> None:
        """All processes of a jail die (out of memory): it vanishes, and nothing that it set up is undone."""
        with self.changing() as state:
            states.bury(state, states.find_jail(state, name))

    def reboot(self) -> None:
        """What is in the kernel only is gone; files stay, but for those in /var/run (rc.d/cleanvar). Nothing is
        started: that is what scripts are for."""
        for path in self.path("/var/run").rglob("*"):
            if not path.is_dir() or path.is_symlink():
                path.unlink()
        old = self.state()
        states.save(fresh(old["release"], old["pool"] is not None), str(self.commands / ".state.json"))
        with self.changing() as state:
            state["pool"] = old["pool"]
            state["boot"] = old["boot"] + 100000
            # rc.d/zfs, which rc.conf has enabled
            state["mounts"] += [mount for mount in old["mounts"] if mount["type"] == "zfs"]

    # ── scripts ──────────────────────────────────────────────────────────────────────────────────────────

    def run(
        self, script: str | bytes, stdin: bytes = b"", env: dict[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs a script with sh; `env` is added to what sshd would give."""
        body = script if isinstance(script, bytes) else script.encode()
        number = len(list((self.root / "tmp").glob("script.*")))
        place = f"/tmp/script.{number}.{os.getpid()}"
        self.write(place, body, 0o600)
        words = [str(PYTHON), "-SE", str(PACKAGE / "enter.py"), *self._places(), "/bin/sh", place]
        environment = ENVIRONMENT | (env or {})
        try:
            return subprocess.run(
                words, input=stdin, capture_output=True, env=environment, timeout=timeout, start_new_session=True
            )
        finally:
            self.path(place).unlink(missing_ok=True)
            self.path(PORT).unlink(missing_ok=True)

    def _places(self) -> list[str]:
        return [str(self.root), str(PACKAGE), str(PYTHON.parent.parent)]

    def _make_root(self) -> None:
        for folder in FOLDERS.split():
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").chmod(0o1777)
        for name in ("lib", "lib64", "lib32"):
            for place in (name, f"usr/{name}"):
                (self.root / place).symlink_to(f"/.machine/{name}")
        (self.root / "sbin").symlink_to("usr/sbin")
        for path, content in FILES.items():
            self.write(path, content)

    def _make_commands(self, pool: bool) -> None:
        """/usr/bin has what FreeBSD's base has and no more; a stand-in is there by either path."""
        (self.commands / ".program").write_text(PROGRAM)
        for file, text in ((".command", COMMAND), (".quick", QUICK)):
            (self.commands / file).write_text(text.format(python=f"/.python/bin/{PYTHON.name}"))
            (self.commands / file).chmod(0o755)
        strict = self.commands / ".strict"
        strict.write_bytes((PACKAGE / "strict.sh").read_bytes())
        strict.chmod(0o755)
        for name in STRICT:
            (self.commands / name).symlink_to(".strict")
            self._link(name, f"/usr/sbin/{name}")
        for name in BASE:
            place = os.path.realpath(Path("/usr/bin") / name)
            if name not in TABLE and name not in STRICT and os.path.exists(place):
                self._link(name, place.replace("/usr/", "/.machine/", 1))
        for name, module in TABLE.items():
            if module != "doas" and (pool or module != "zfs"):
                (self.commands / name).symlink_to(".command" if name in SLOW else ".quick")
                self._link(name, f"/usr/sbin/{name}")

    def _link(self, name: str, target: str) -> None:
        (self.root / ("bin" if name in BIN else "usr/bin") / name).symlink_to(target)
