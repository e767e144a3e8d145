"""What is in force on each host while staff's changes go in waves: git, the clock and the status around `rollout`.

In: what is in force when nobody waits, how the hosts are, and whether a host would be disturbed. Out: the same, each
host as staff's documents have come to it. What is kept here is forgotten without harm: how far a rollout has come is on
the status branch. Must not know how a host is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial

from reconciler import rollout
from reconciler.model import Ahead, Fleet, HostSpec, Rollout, Waves
from reconciler.render import known
from reconciler.repo import GitFailure, Repository, Tree
from reconciler.revision import Compiler, Settled, Told, settle_beside, staff_digest

Verdicts = Callable[[Waves, str, Ahead], rollout.Verdict]
"""How a host is with what it was given."""
Disturbs = Callable[[Fleet, str], bool]
"""Whether a host would be disturbed by what a fleet wants of it."""
Files = Mapping[str, bytes]


@dataclass
class Turns:
    """Whose turn it is. One for the life of a reconciler; not for several threads at once."""

    repository: Repository
    disturbs: Disturbs
    state: Rollout | None = None
    _digests: dict[str, str] = field(default_factory=dict)
    _compilers: dict[str, Compiler] = field(default_factory=dict)
    """For staff's documents that some hosts have still, by commit."""
    _specs: dict[tuple[str, str], Mapping[str, HostSpec]] = field(default_factory=dict)
    _disturbed: dict[str, tuple[HostSpec, bool]] = field(default_factory=dict)

    def in_force(self, settled: Settled, compiler: Compiler, files: Files, verdict: Verdicts) -> Settled:
        """`settled` is for everybody at once, and `compiler` has made it; `files` are those of the status branch."""
        fleet = settled.fleet
        if fleet is None:
            return settled
        commit = settled.revision.commit
        state = self.state or known.rollout(files) or Rollout(commit)
        target = self.same_documents(commit, (state.revision, state.target, state.failed), compiler.newest)
        if at_once(fleet) or (target == state.revision and not state.ahead):
            self.state = Rollout(target)
            return replace(settled, rollout=self.state)
        at = self.situation(settled, fleet, target, state, compiler, files, verdict)
        self.state = rollout.advance(state, at)
        self.forget(commit, {self.state.revision, *(has.revision for has in self.state.ahead.values())})
        return replace(settled, fleet=rollout.wanted(self.state, at, known.placed(files)), rollout=self.state)

    def situation(
        self,
        settled: Settled,
        fleet: Fleet,
        target: str,
        state: Rollout,
        compiler: Compiler,
        files: Files,
        verdict: Verdicts,
    ) -> rollout.Situation:
        now = datetime.now(UTC)
        commits = {state.revision, *(has.revision for has in state.ahead.values())} - {target}
        return rollout.Situation(
            target,
            fleet,
            {staff: self.specs(settled.revision.commit, staff, compiler, files) for staff in commits},
            partial(verdict, fleet.waves),
            known.unwell(files),
            partial(self.closed, fleet, now),
            rollout.approval_of(target) in valid(fleet.approvals, now.date()),
        )

    def closed(self, fleet: Fleet, now: datetime, host: str) -> str:
        """Why staff's change must not come to a host now; "" when it may."""
        spec = fleet.hosts[host]
        day, minute = now.weekday(), 60 * now.hour + now.minute
        if not spec.windows or any(window.holds(day, minute) for window in spec.windows):
            return ""
        was, disturbs = self._disturbed.get(host, (None, True))
        if was != spec:
            disturbs = self.disturbs(fleet, host)
            self._disturbed[host] = (spec, disturbs)
        return "waits for its window: jails would stop or restart" if disturbs else ""

    # ── staff's documents, by commit ─────────────────────────────────────────────────────────────────────────

    def same_documents(self, commit: str, names: tuple[str, ...], near: Tree | None) -> str:
        """The one of these commits in which staff's documents are the same as in this, or this itself."""
        self._digests = {name: self.digest(name, near) for name in {commit, *names} if name}
        return next((name for name in names if name and self._digests[name] == self._digests[commit]), commit)

    def digest(self, commit: str, near: Tree | None) -> str:
        """`near`: a tree from which it is not far."""
        if commit in self._digests:
            return self._digests[commit]
        try:
            return staff_digest(self.repository.tree(commit, known=near).entries)
        except GitFailure:  # the history was written anew
            return f"unknown {commit}"

    def specs(self, commit: str, staff: str, compiler: Compiler, files: Files) -> Mapping[str, HostSpec]:
        """What staff's older documents want of the hosts; nothing when they cannot be had any more."""
        if (commit, staff) not in self._specs:
            own = self._compilers.setdefault(staff, compiler.fork())
            try:
                fleet = settle_beside(self.repository, commit, staff, own, told(files))
            except GitFailure:
                fleet = None
            self._specs[commit, staff] = fleet.hosts if fleet else {}
        return self._specs[commit, staff]

    def forget(self, commit: str, staff: set[str]) -> None:
        """What no host has any more, and what was wanted before."""
        self._compilers = {name: own for name, own in self._compilers.items() if name in staff}
        self._specs = {key: specs for key, specs in self._specs.items() if key[0] == commit and key[1] in staff}


def told(files: Files) -> Told:
    return Told(known.placed(files), partial(known.applied, files), known.lost(files), known.made(files))


def at_once(fleet: Fleet) -> bool:
    """Whether nobody would wait, whatever the change: then nothing of what was has to be known."""
    return len(fleet.hosts) < fleet.waves.many and not any(spec.windows for spec in fleet.hosts.values())


def valid(approvals: Mapping[str, str], today: date) -> frozenset[str]:
    return frozenset(name for name, until in approvals.items() if today.isoformat() <= until)
