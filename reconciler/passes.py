"""Everything around a pass: where the desired state comes from, the ways to the hosts, where the status goes.

In: a Config. Out: settled revisions, Reports, status commits. The command line and the daemon both stand on this;
neither schedule nor signals are known here. All memory is in git, on the hosts and on the status branch: what is kept
below `daemon.cache` is only kept because it is faster.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO

from reconciler import __version__, health
from reconciler.age import Identities, opened
from reconciler.archives import FetchFailure
from reconciler.config import Config, ConfigFailure
from reconciler.fetch import fetch
from reconciler.hostile import normalise
from reconciler.model import Circumstances, Failure, Fleet, HostSpec, Report, Source
from reconciler.plan import digest
from reconciler.platforms import PLATFORMS
from reconciler.reconcile import Pass, reconcile
from reconciler.remote import Credentials, Remote
from reconciler.render import status
from reconciler.render.known import addresses, forget_others, held, known_version
from reconciler.repo import GitFailure, Mirror, Repository, archive
from reconciler.revision import Compiler, Settled, settle
from reconciler.watch import Watch
from reconciler.waves import Turns, Verdicts, told, valid
from reconciler.wire import ShellWire

BEGINNING, PAUSE = 3.0, 0.3
"""Seconds that jails get after a pass has made them, before they are told to be starting: most need less, and would be
told of twice."""


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
        self._turns = Turns(self.mirror, self.disturbs)
        self._remotes: dict[str, Remote] = {}
        """By host."""
        self._watches: dict[str, Watch] = {}
        self._lock = threading.Lock()
        self._settled: Settled | None = None
        self._files: dict[str, bytes] | None = None
        self._addresses: tuple[object, Mapping[str, tuple[str, str]]] = (None, {})

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
        return settle(repository, head, compiler, told(self.files()))

    def in_waves(self, settled: Settled, verdict: Verdicts) -> Settled:
        """As it is to be made now: a change of staff's that touches many hosts comes to some of them first."""
        return self._turns.in_force(settled, self._compiler, self.files(), verdict)

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self, fleet: Fleet, host: str, wish: Wish) -> Report:
        """One pass over one host."""
        known = opened(fleet.hosts[host], self.identities)
        taken = tuple(still_taken(fleet, host, self.addresses()))
        today = datetime.now(UTC).date()
        file, approved = self.files().get(f"hosts/{host}.yaml"), valid(fleet.approvals, today)
        given = Circumstances(
            today,
            fleet.guard,
            approved=approved,
            released=held(file, approved),
            vanishing=fleet.vanishing,
            frozen=fleet.frozen,
            untouched=known.frozen | fleet.suspended.keys() | {failure.owner for failure in taken},
            newcomer=newcomer(file),
            adopt=wish.adopt,
            reviewed=bool(wish.digest),
            unwell=self.watch(host).due(fleet.guard, time.monotonic()) if wish.apply else {},
        )
        asked = Pass(given, wish.apply, wish.digest, health.answering)
        report = reconcile(known.spec, self.wire(known.spec), self.stock, asked)
        secrets = tuple(Failure(f.owner, f.key, f.reason) for f in known.failures)
        worked = wish.apply and not (report.unreachable or report.refusal or report.hold)
        version = __version__ if worked else ""
        report = replace(report, failures=(*secrets, *taken, *report.failures), version=version)
        if wish.apply:
            self.watch(host).saw(fleet.hosts[host].jails, report, time.monotonic())
        return report

    def addresses(self) -> Mapping[str, tuple[str, str]]:
        """Who has which, by the status: read once for all hosts, which takes 20 ms of 10,000 jails."""
        files = self.files()
        if self._addresses[0] is not files:
            self._addresses = (files, addresses(files))
        return self._addresses[1]

    def disturbs(self, fleet: Fleet, host: str) -> bool:
        """Whether it would stop or restart a jail; so it may be while the host does not answer."""
        report = self.run(fleet, host, Wish(apply=False))
        return bool(report.unreachable) or any(change.disrupts for change in report.pending)

    def examine(self, fleet: Fleet, host: str, report: Report) -> Report:
        """The report with what the checks of its jails say now; of a host that cannot be reached they say nothing."""
        watch, end = self.watch(host), time.monotonic() + (BEGINNING if report.done else 0)
        while not report.unreachable:
            self.ask(fleet.hosts[host], watch, report)
            if not watch.beginning or time.monotonic() >= end:
                break
            time.sleep(PAUSE)
        return watch.told(report, fleet.guard)

    def ask(self, spec: HostSpec, watch: Watch, report: Report) -> None:
        jails = watch.askable(report, time.monotonic(), 0.9 * self.config.daemon.health)
        if asked := health.questions(jails):
            remote = self.remote(spec)
            ways = health.Host(PLATFORMS[spec.platform], remote.dial, remote.run)
            watch.heard(health.ask(asked, ways), time.monotonic())

    def restarts(self, fleet: Fleet, host: str) -> bool:
        """Whether the next pass is to restart a jail for its health."""
        return bool(self.watch(host).due(fleet.guard, time.monotonic()))

    def watch(self, host: str) -> Watch:
        """What is remembered of its jails' health, from the start of this process on."""
        return self._watches.setdefault(host, Watch())

    def wire(self, spec: HostSpec) -> ShellWire:
        return ShellWire(self.remote(spec), PLATFORMS[spec.platform])

    def remote(self, spec: HostSpec) -> Remote:
        """The kept connection; another one in its place when it leads elsewhere, or somebody else logs in."""
        with self._lock:
            known, as_root = self._remotes.get(spec.name), PLATFORMS[spec.platform].AS_ROOT
            if known and (known.ssh, known.as_root) == (spec.ssh, as_root):
                return known
            fresh = self._remotes[spec.name] = Remote(spec.ssh, self.credentials, as_root)
        if known:
            known.close()
        return fresh

    def let_go(self, host: str) -> None:
        """Of a host that left; waits for what is under way there."""
        with self._lock:
            known = self._remotes.pop(host, None)
            self._watches.pop(host, None)
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
            self.config.status.instance,
            settled.head,
            settled.revision,
            settled.fleet,
            settled.problems,
            reports,
            settled.rollout,
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


def still_taken(fleet: Fleet, host: str, known: Mapping[str, tuple[str, str]]) -> Iterator[Failure]:
    """Jails that wait for an address: who has it on another host lets it go first."""
    for jail in fleet.hosts[host].jails:
        for address in jail.nic.public:
            other, home = known.get(address, (jail.id, host))
            if other != jail.id and home != host and home in fleet.hosts:
                theirs = f"{other.replace('--', '/', 1)}'s on host {home}"
                yield Failure(jail.id, "", f"{address} is still {theirs}: it waits for that to let go")


def newcomer(file: bytes | None) -> str:
    """This version, when the status knows of another one at work on the host last."""
    return __version__ if known_version(file) not in ("", __version__) else ""


# never ssh: a customer's URL would be fetched with the reconciler's own key
commit_archive = partial(archive, protocols=("https", "file"))


def ssh_command(key: str) -> str | None:
    return f"ssh -i {shlex.quote(key)} -o IdentitiesOnly=yes -o BatchMode=yes" if key else None
