"""In which order a change of staff's reaches the hosts: canaries, then shares, each wave when the one before is well.

In: what the newest documents want of each host, what staff's older ones want that it still has, how the hosts are, and
the rollout as the status branch remembers it. Out: the rollout, one step further, and why it goes no further. Pure: a
commit is a name here, and time is in the verdicts. Must not know how a host is looked at, or who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from reconciler.model import Ahead, Fleet, HostSpec, Report, Rollout, Waves, approval

Specs = Mapping[str, HostSpec]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a host is with what it was given last. `well` only after it has been for the pause, `failed` after the
    deadline; else nobody knows yet."""

    state: Literal["well", "open", "failed"]
    why: str = ""
    """What is wrong, or what is waited for; "" when it is well."""


UNSEEN = "has not been looked at since"


@dataclass
class Observer:
    """Since when each host has what it was given last, and since when it is well with that; forgetting it only delays.
    Times are seconds of any clock that runs evenly."""

    given: dict[str, tuple[str, float]] = field(default_factory=dict)
    fine: dict[str, float] = field(default_factory=dict)

    def verdict(self, host: str, has: Ahead, report: Report | None, waves: Waves, now: float) -> Verdict:
        """`report`: about what it was given, None when there is none yet."""
        if self.given.get(host, ("", 0.0))[0] != has.revision:
            self.given[host] = (has.revision, now)
            self.fine.pop(host, None)
        why = trouble(report, has.unwell)
        if why:
            self.fine.pop(host, None)
            late = now - self.given[host][1] > waves.deadline
            return Verdict("failed" if late else "open", why)
        if now - self.fine.setdefault(host, now) < waves.pause:
            return Verdict("open", f"has to be well for {waves.pause} seconds")
        return Verdict("well")


def unseen(waves: Waves, host: str, has: Ahead) -> Verdict:
    """Of whoever looks at no host."""
    return Verdict("open", UNSEEN)


def trouble(report: Report | None, before: Collection[str]) -> str:
    """What is wrong on a host that was not wrong `before`; a jail that somebody else broke is no reason to wait. Only
    what a second look finds well is well."""
    if report is None:
        return UNSEEN
    found = {owner: reason for owner, reason in unwell(report).items() if owner not in before}
    if "" in before:
        return ""
    if found:
        owner, reason = min(found.items())
        return f"{owner.replace('--', '/', 1)}: {reason}" if owner else f"is not well: {reason}"
    return "has only just been changed" if report.done else ""


def unwell(report: Report) -> dict[str, str]:
    """Jail's id, or "" for the host → what is wrong with it."""
    found = {change.owner: f"waits: {change.words}" for change in reversed(report.pending)}
    found |= {**dict(report.starting), **dict(report.degraded), **dict(report.ailing)}
    found |= {failure.owner: failure.reason for failure in reversed((*report.conflicts, *report.failures))}
    stuck = report.unreachable or report.refusal or report.hold
    return found | ({"": stuck} if stuck else {})


@dataclass(frozen=True, slots=True)
class Situation:
    """What one step depends on. `older`: staff's commit → what is wanted with its documents and customers' newest."""

    target: str
    newest: Fleet
    older: Mapping[str, Specs]
    verdict: Callable[[str, Ahead], Verdict]
    unwell: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Host → its jails that are not well now, and "" when it is not itself."""
    closed: Callable[[str], str] = lambda host: ""
    """Why the change must not come to a host now, as far as its windows are concerned."""
    released: bool = False
    """Somebody approved of all hosts at once."""

    def of(self, commit: str) -> Specs:
        return self.newest.hosts if commit == self.target else self.older.get(commit, {})


def wanted(state: Rollout, at: Situation, standing: Mapping[str, str]) -> Fleet:
    """The fleet as it is to be made now: of each host what staff's documents that have come to it want.

    A host takes the newest at once when it is new, or when the older documents would lose a jail that stands on it
    (`standing`: jail's id → host): they may go without what a customer built on since.
    """
    homes: dict[str, set[str]] = {}
    for jail, host in standing.items():
        homes.setdefault(host, set()).add(jail)
    found = {}
    for name, newest in at.newest.hosts.items():
        before = spec_of(state, at, name)
        kept = {jail.id for jail in newest.jails} & homes.get(name, set())
        loses = kept - {jail.id for jail in before.jails} if before is not newest else ()
        found[name] = newest if loses else before
    return replace(at.newest, hosts=found)


def spec_of(state: Rollout, at: Situation, host: str) -> HostSpec:
    newest = at.newest.hosts[host]
    commit = state.ahead[host].revision if host in state.ahead else state.revision
    return as_before(at.of(commit).get(host), newest)


def as_before(older: HostSpec | None, newest: HostSpec) -> HostSpec:
    """The older one, but for how the host is reached and whether it is left alone: that is true at once."""
    if older is None or older is newest:
        return newest
    now = {name: getattr(newest, name) for name in ("ssh", "suspended", "canary", "windows")}
    older = replace(older, **now)
    return newest if older == newest else older


# ── a step ───────────────────────────────────────────────────────────────────────────────────────────────────


def advance(state: Rollout, at: Situation) -> Rollout:
    """Moves those hosts on whose wave has come, or everybody back."""
    if at.target == state.revision:
        return Rollout(state.revision, failed=state.failed)
    touched = in_order(state, at)
    if not touched:
        return Rollout(at.target)
    name = approval_of(at.target)
    failed = "" if at.released else state.failed
    if failed == at.target:
        why = "it was rolled back: mend the documents, or approve of it as it is"
        return Rollout(state.revision, {}, at.target, failed, (why,), tuple(touched), name)
    began = replace(state, target=at.target, failed=failed, approval=name)
    broken = [(host, its.why) for host in touched if (its := verdict(state, host, at)) and its.state == "failed"]
    if broken and at.newest.waves.roll_back and not at.released:
        why = f"rolled back, because {' '.join(broken[0])}"
        return replace(began, ahead={}, failed=at.target, waits=(why,), left=tuple(touched))
    return further(began, at, touched)


def further(state: Rollout, at: Situation, touched: Sequence[str]) -> Rollout:
    count = opened(state, at, touched)
    due = [host for host in touched[:count] if not has(state, host, at)]
    closed = {host: why for host in due if not at.released and (why := at.closed(host))}
    coming = [host for host in due if host not in closed]
    ahead = {**state.ahead, **{host: Ahead(at.target, at.unwell.get(host, frozenset())) for host in coming}}
    now = replace(state, ahead=ahead)
    left = tuple(host for host in touched if not has(now, host, at))
    waits = (*waiting(now, at, touched[:count]), *(f"{host} {why}" for host, why in closed.items()))
    few = len(touched) < at.newest.waves.many or at.released
    if not left and (few or not waits):
        return Rollout(at.target)
    return replace(now, left=left, waits=waits)


def opened(state: Rollout, at: Situation, touched: Sequence[str]) -> int:
    """How many of the hosts the change may be on: the first wave that is not well all over is the last one."""
    if at.released or len(touched) < at.newest.waves.many:
        return len(touched)
    sizes = boundaries(at.newest.waves, len(touched), first(state, at, touched))
    return next((n for n in sizes if not all(well(state, host, at) for host in touched[:n])), len(touched))


def boundaries(waves: Waves, count: int, canaries: int) -> list[int]:
    """How many hosts have it after each wave."""
    shares = [-(-count * share // 100) for share in waves.shares]
    return sorted({*([canaries] if canaries else []), *(n for n in shares if n > canaries), count})


def first(state: Rollout, at: Situation, touched: Iterable[str]) -> int:
    return sum(at.newest.hosts[h].canary and (has(state, h, at) or "" not in at.unwell.get(h, ())) for h in touched)


def in_order(state: Rollout, at: Situation) -> list[str]:
    """The hosts that the change touches: those that have it, canaries, others, and last those that are not well as it
    is: nobody learns from them."""

    def rank(host: str) -> tuple[bool, bool, bool, str]:
        spec = at.newest.hosts[host]
        return (not has(state, host, at), "" in at.unwell.get(host, ()), not spec.canary, host)

    return sorted((host for host in at.newest.hosts if touches(state, at, host)), key=rank)


def touches(state: Rollout, at: Situation, host: str) -> bool:
    """A host that has it already is compared with what all the others have."""
    newest, base = at.newest.hosts[host], at.of(state.revision).get(host)
    if base is None:
        return False
    return as_before(base, newest) is not newest or spec_of(state, at, host) is not newest


def has(state: Rollout, host: str, at: Situation) -> bool:
    return host in state.ahead and state.ahead[host].revision == at.target


def verdict(state: Rollout, host: str, at: Situation) -> Verdict | None:
    """None for a host that does not have it."""
    return at.verdict(host, state.ahead[host]) if has(state, host, at) else None


def well(state: Rollout, host: str, at: Situation) -> bool:
    its = verdict(state, host, at)
    return its is not None and its.state == "well"


def waiting(state: Rollout, at: Situation, wave: Iterable[str]) -> list[str]:
    return [f"{host} {its.why}" for host in wave if (its := verdict(state, host, at)) and its.state != "well"]


def approval_of(target: str) -> str:
    """Of the commit that the rollout began with: later ones of customers do not rename it."""
    return approval("rollout", target)
