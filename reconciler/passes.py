"""Everything around a pass: where the desired state comes from, the ways to the hosts, where the status goes.

In: a Config. Out: settled revisions, Reports, status commits. The command line and the daemon both stand on this;
neither schedule nor signals are known here. All memory is in git, on the hosts and on the status branch: what is kept
below `daemon.cache` is only kept because it is faster.
"""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from reconciler.age import Identities, opened
from reconciler.archives import FetchFailure
from reconciler.config import Config, ConfigFailure
from reconciler.fetch import fetch
from reconciler.health import answering
from reconciler.hostile import normalise
from reconciler.model import Failure, Fleet, HostSpec, Report, Source
from reconciler.plan import Circumstances, digest
from reconciler.platforms import PLATFORMS
from reconciler.reconcile import Pass, reconcile
from reconciler.remote import Credentials, Remote
from reconciler.render import status
from reconciler.render.known import applied, forget_others, placed
from reconciler.repo import GitFailure, Mirror, Repository, archive
from reconciler.revision import Compiler, Settled, settle
from reconciler.wire import ShellWire


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asked of a pass beyond what is usual."""

    apply: bool = True
    digest: str = ""
    adopt: bool = False


class Station:
    """One reconciler: a mirror of the repository, open connections to the hosts."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.cache = Path(config.daemon.cache)
        self.mirror = self._mirror()
        self.identities = Identities(Path(config.secrets.keys))
        self.credentials = Credentials(Path(config.ssh.key))
        self._compiler = Compiler()
        self._remotes: dict[str, Remote] = {}
        """By host."""
        self._lock = threading.Lock()
        self._settled: Settled | None = None
        self._files: dict[str, bytes] | None = None

    def _mirror(self) -> Mirror:
        source, status = self.config.source, f"status/{self.config.status.instance}"
        try:
            return Mirror(source.url, self.cache / "git", source.branch, status, ssh_command=ssh_command(source.key))
        except OSError as error:
            raise ConfigFailure(f"daemon.cache is {self.cache}: {error.strerror}") from None

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def settle(self) -> Settled:
        """Fetches; what is in force now. The same commit gives the same answer without asking again."""
        head = self.mirror.fetch()
        self._files = None
        if self._settled is None or self._settled.head != head:
            self._settled = self.settled(self.mirror, head, self._compiler)
        return self._settled

    def settle_at(self, revision: str) -> Settled:
        """As if `revision` were the newest commit: of the mirror, or of the repository in the current directory."""
        self.mirror.fetch()
        repository: Repository = self.mirror
        try:
            head = repository.resolve(revision)
        except GitFailure:
            repository = Repository.open(Path())
            head = repository.resolve(revision)
        return self.settled(repository, head, Compiler())

    def settled(self, repository: Repository, head: str, compiler: Compiler) -> Settled:
        """With what the status knows: where jails are, and what they are made from."""
        files = self.files()
        return settle(repository, head, compiler, placed(files), partial(applied, files))

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, fleet: Fleet, host: str, wish: Wish) -> Report:
        """One pass over one host."""
        known = opened(fleet.hosts[host], self.identities)
        today = datetime.now(UTC).date()
        given = Circumstances(
            today,
            fleet.guard,
            approved=valid(fleet.approvals, today),
            vanishing=fleet.vanishing,
            frozen=fleet.frozen,
            untouched=known.frozen,
            adopt=wish.adopt,
            reviewed=bool(wish.digest),
        )
        asked = Pass(given, wish.apply, wish.digest, answering)
        report = reconcile(known.spec, self.wire(known.spec), self.stock, asked)
        secrets = tuple(Failure(f.owner, f.key, f.reason) for f in known.failures)
        return replace(report, failures=(*secrets, *report.failures))

    def wire(self, spec: HostSpec) -> ShellWire:
        return ShellWire(self.remote(spec), PLATFORMS[spec.platform])

    def remote(self, spec: HostSpec) -> Remote:
        """The kept connection; another one in its place when address or key changed."""
        with self._lock:
            known = self._remotes.get(spec.name)
            if known and known.ssh == spec.ssh:
                return known
            fresh = self._remotes[spec.name] = Remote(spec.ssh, self.credentials)
        if known:
            known.close()
        return fresh

    def let_go(self, host: str) -> None:
        """Of a host that left; waits for what is under way there."""
        with self._lock:
            known = self._remotes.pop(host, None)
        if known:
            known.close()

    def stock(self, source: Source) -> BinaryIO:
        """An archive, checked against its digest and made safe to unpack."""
        files = Path(self.config.fetch.files) if self.config.fetch.files else None
        try:
            return normalise(fetch(source, self.cache / "archives", files, commit_archive)).open("rb")
        except GitFailure as failure:
            raise FetchFailure(str(failure)) from failure
        except OSError as error:
            raise FetchFailure(f"{source.digest[:12]} cannot be kept: {error}") from error

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────

    def files(self) -> dict[str, bytes]:
        """The status branch as it is known here."""
        if self._files is None:
            self._files = self.mirror.status_files()
            forget_others(self._files)
        return self._files

    def publish(self, settled: Settled, reports: Mapping[str, Report]) -> str | None:
        """Writes what changed; the commit, or None when nothing did. After a GitFailure the next one includes it."""
        standing = status.Standing(
            self.config.status.instance, settled.head, settled.revision, settled.fleet, settled.problems, reports
        )
        changed = status.files(standing, self.files())
        plans = {digest(name, report.done) for name, report in reports.items() if report.done}
        files = {path: data for path, data in {**self.files(), **changed}.items() if data is not None}
        message = status.message(standing, changed, self.files(), plans)
        self._files = None
        # also when nothing changed: a commit that the remote did not take may still wait
        commit = self.mirror.publish(changed, message)
        self._files = files
        return commit

    def close(self) -> None:
        for remote in self._remotes.values():
            remote.close()


def valid(approvals: Mapping[str, str], today: date) -> frozenset[str]:
    return frozenset(name for name, until in approvals.items() if today.isoformat() <= until)


# never ssh: a customer's URL would be fetched with the reconciler's own key
commit_archive = partial(archive, protocols=("https", "file"))


def ssh_command(key: str) -> str | None:
    return f"ssh -i {shlex.quote(key)} -o IdentitiesOnly=yes -o BatchMode=yes" if key else None
