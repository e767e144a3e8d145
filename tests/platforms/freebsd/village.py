"""A pretended FreeBSD host with a company on it: the documents of the cases, the real steps, the real probe.

In: changes to the documents, commands typed on the host. Out: Reports of real passes. Only the userland is a stand-in
(`bsd.host`), held against recordings of a real one.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from datetime import date
from pathlib import Path
from typing import BinaryIO

from bsd.doas import ACCOUNT
from bsd.host import Host
from reconciler.model import Circumstances, HostSpec, Report, Source, Ssh
from reconciler.platforms import PLATFORMS
from reconciler.reconcile import Answering, Pass, nobody, reconcile
from reconciler.remote import RUN, Credentials, Remote, RemoteFailure
from reconciler.render.plans import summary
from reconciler.repo import WorkTree
from reconciler.revision import Compiler
from reconciler.wire import PATIENCE, ShellWire

FREEBSD = PLATFORMS["freebsd"]
REPOSITORY = Path(__file__).parents[2] / "cases" / "platforms" / "freebsd" / "base" / "repository"
TODAY = date(2026, 11, 21)
NOTHING = "step() { :; }"
"""What `apply.sh` says."""
COUNTER = """step() {
    count=0
    [ ! -e /tmp/steps ] || read -r count </tmp/steps
    count=$((count + 1))
    echo $count >/tmp/steps
    [ $count -ne %d ] || %s
}
"""
KILLED, OVERTAKEN = "kill -9 0", 'mv "$armed" "${armed%.armed}.reverting"'
"""What happens at a step: the apply is killed, with all its children; somebody has waited and takes it back."""


class Line:
    """What a Remote does, on a pretended host."""

    name = "a"

    def __init__(self, host: Host, at: int = 0, happens: str = KILLED, away: bool = False) -> None:
        """`happens`: after so many steps of an apply. `away`: no second one comes."""
        self.host, self.at, self.happens, self.away = host, at, happens, away

    def run(self, script: str, timeout: float = 120) -> bytes:
        assert NOTHING in script or "observe | dd" in script
        done = self.host.run(script.replace(NOTHING, COUNTER % (self.at, self.happens)), timeout=120)
        if done.returncode:
            raise RemoteFailure(f"status {done.returncode}: {done.stderr.decode()[-500:]}{done.stdout.decode()[-500:]}")
        return done.stdout

    def renew(self, timeout: float) -> None:
        if self.away:
            raise RemoteFailure("cannot reach it")

    def send(self, source: BinaryIO, path: str) -> None:
        self.host.write(path, source.read(), 0o600)


class Account(Line):
    """The same for an account that is not root: what sshd is given to run, with what is sent on its standard input."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        ssh = Ssh("::1", 22, "", "reconciler")
        self.remote = Remote(ssh, Credentials(Path("key")), FREEBSD.AS_ROOT)

    def run(self, script: str, timeout: float = 120) -> bytes:
        done = self.host.run(self.remote.raised(RUN), script.encode(), {ACCOUNT: "reconciler"})
        if done.returncode:
            raise RemoteFailure(f"status {done.returncode}: {done.stderr.decode()}")
        return done.stdout


class Village:
    def __init__(self, folder: Path, pool: bool = False) -> None:
        self.folder = folder
        self.today = TODAY
        self.approved: frozenset[str] = frozenset()
        self.host = Host(folder / "host", pool=pool)
        self.documents = folder / "repository"
        if not self.documents.exists():
            shutil.copytree(REPOSITORY, self.documents)

    def copied(self, folder: Path, strict: bool = False) -> Village:
        """`strict`: GNU's tools refuse what FreeBSD's do not know, as where all was applied first."""
        shutil.copytree(self.folder, folder, symlinks=True)
        copy = Village(folder)
        if not strict:
            copy.host.loosen()
        return copy

    @property
    def spec(self) -> HostSpec:
        compiled = Compiler().compile(WorkTree(self.documents))
        assert not compiled.problems, compiled.all_problems
        return compiled.fleet.hosts["a"]

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.documents / path
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def type(self, script: str) -> str:
        """What the administrator types, and reads."""
        done = self.host.run(script)
        assert done.returncode == 0, (script, done.returncode, done.stdout.decode(), done.stderr.decode())
        return done.stdout.decode()

    def look(self) -> Report:
        return self._pass(apply=False)

    def apply(self, adopt: bool = False, answering: Answering = nobody) -> Report:
        return self._pass(apply=True, adopt=adopt, answering=answering)

    def apply_and_be_cut_off(self) -> Report:
        """Nobody comes back by a new connection, and on a pretended host nobody waits."""
        return self._pass(apply=True, patience=0, away=True)

    def apply_killed(self, at: int, happens: str = KILLED) -> Report:
        self.host.path("/tmp/steps").unlink(missing_ok=True)
        return self._pass(apply=True, at=at, happens=happens)

    def apply_overtaken(self, at: int) -> Report:
        return self.apply_killed(at, OVERTAKEN)

    @property
    def steps(self) -> int:
        """How many the last apply had."""
        return int(self.host.read("/tmp/steps"))

    def converge(self) -> Report:
        """An apply that leaves nothing: it looked again when it had done its work."""
        report = self.apply()
        assert report.ready, (summary(report), report.failures, [c.words for c in report.pending])
        return report

    def apply_as_account(self) -> Report:
        """By an account that the host's rule makes root."""
        wire = ShellWire(Account(self.host), FREEBSD)  # type: ignore[arg-type]
        return reconcile(self.spec, wire, stock, Pass(Circumstances(TODAY, reviewed=True)))

    def _pass(
        self,
        apply: bool,
        at: int = 0,
        happens: str = KILLED,
        adopt: bool = False,
        answering: Answering = nobody,
        patience: float = PATIENCE,
        away: bool = False,
    ) -> Report:
        wire = ShellWire(Line(self.host, at, happens, away), FREEBSD, patience)  # type: ignore[arg-type]
        given = Circumstances(self.today, reviewed=not away, adopt=adopt, approved=self.approved)
        return reconcile(self.spec, wire, stock, Pass(given, apply=apply, answering=answering))


def stock(source: Source) -> BinaryIO:
    """An archive with one program."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        program = b"#!/bin/sh\nexec sleep 1000\n"
        entry = tarfile.TarInfo("./start")
        entry.mode, entry.size = 0o755, len(program)
        archive.addfile(entry, io.BytesIO(program))
    body.seek(0)
    return body
