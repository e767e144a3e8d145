"""One pass over one host: reads like the diagram in the README. Start here.

In: a HostSpec and the ways to its host. Out: a Report; never an exception for what a host or a fetch does wrong.
Level-based: a pass knows nothing of what woke it, and a second one right after finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import BinaryIO

from reconciler.archives import FetchFailure
from reconciler.model import (
    Change,
    Circumstances,
    Failure,
    HostSpec,
    Manifest,
    Observation,
    Owned,
    Plan,
    Report,
    Rule,
    Source,
)
from reconciler.plan import inventory, owner_digests, plan
from reconciler.platforms import PLATFORMS
from reconciler.platforms.steps import settled
from reconciler.remote import RemoteFailure
from reconciler.retention import retained
from reconciler.stages import Stage, stages
from reconciler.wire import Outcome, Verdict, Wire

Endpoint = tuple[str, int]
"""An address and a TCP port."""
Answering = Callable[[frozenset[Endpoint]], frozenset[Endpoint]]
Check = Callable[[], bool]
ATTEMPTS = 3
"""How often a plan is made anew because the host changed between look and apply."""
Stock = Callable[[Source], BinaryIO]
"""Where archives come from, made safe to unpack."""


def nobody(endpoints: frozenset[Endpoint]) -> frozenset[Endpoint]:
    """Of a reconciler that reaches no jail."""
    return frozenset()


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass was asked: by default, to do whatever is needed."""

    given: Circumstances
    apply: bool = True
    digest: str = ""
    """Apply only if this is the digest of the plan."""
    answering: Answering = nobody
    """Which of these endpoints answer, of those whom the reconciler can reach."""


def reconcile(spec: HostSpec, wire: Wire, stock: Stock, asked: Pass) -> Report:
    """Desired state → plan → host → report. The whole program is around this function."""
    manifest = PLATFORMS[spec.platform].lower(spec)
    report = Report(spec.name, manifest.digest, owner_digests(manifest, spec))
    try:
        for _ in range(ATTEMPTS):
            seen = stopped(wire.observe(manifest), spec)
            planned = plan(manifest, seen, asked.given)
            if not asked.apply or idle(manifest, planned, seen, asked):
                return left(report, planned, seen, asked)
            todo, unfetched = without(planned, deliver(planned, wire, stock))
            watched = partial(still, spec, todo.changes, asked.answering)
            carried = carry_out(manifest, seen, todo, wire, PLATFORMS[spec.platform].UNDO, watched)
            if carried.verdict == "applied":
                return finished(report, manifest, carried, unfetched, asked)
        return replace(report, refusal=UNDECIDED[carried.verdict])
    except RemoteFailure as failure:
        return replace(report, unreachable=str(failure))


def stopped(seen: Observation, spec: HostSpec) -> Observation:
    """On hold, by the administrator or by the documents."""
    why = f"by `suspend` in {spec.suspended}" if spec.suspended else ""
    return replace(seen, hold=seen.hold or why)


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of a plan's stages, and the host as it was seen last."""

    verdict: Verdict
    seen: Observation
    done: tuple[Change, ...] = ()
    failures: tuple[Failure, ...] = ()


def carry_out(
    manifest: Manifest, seen: Observation, todo: Plan, wire: Wire, ground: Collection[str], watched: Callable[[], Check]
) -> Carried:
    """Stage by stage; what was not confirmed ends it, and so does somebody else who came in between."""
    carried = Carried("applied", seen)
    observed = False
    for stage in stages(todo.changes, ground):
        stage = replace(stage, changes=possible(stage.changes, carried.failures))
        works = watched() if stage.guarded else always
        entries = during(manifest, carried, todo)
        outcome = wire.apply(manifest, stage, entries, carried.seen.token)
        if outcome.verdict != "applied":
            late = carried.done or carried.failures
            return replace(carried, seen=wire.observe(manifest)) if late else replace(carried, verdict=outcome.verdict)
        taken_back = wire.confirm(outcome.armed, manifest, works) if outcome.armed else ""
        if taken_back:
            failure = Failure("", "", f"network and firewall were taken back: {taken_back}")
            return replace(carried, seen=wire.observe(manifest), failures=(*carried.failures, failure))
        carried = further(carried, stage, entries, outcome)
        observed = outcome.seen is not None
    return carried if observed else replace(carried, seen=wire.observe(manifest))


def during(manifest: Manifest, carried: Carried, todo: Plan) -> tuple[Owned, ...]:
    """Of what is to come the inventory goes on knowing what is there now."""
    done = {change.key for change in carried.done}
    undone = tuple(change for change in todo.changes if change.key not in done)
    return inventory(manifest, carried.seen, replace(todo, changes=undone))


def further(carried: Carried, stage: Stage, entries: tuple[Owned, ...], outcome: Outcome) -> Carried:
    """After one more stage. Where the host was not looked at, its inventory is what the stage has made of it."""
    changes = stage.changes
    done = tuple(changes[n] for n in sorted(outcome.done))
    failures = tuple(Failure(changes[n].owner, changes[n].key, text) for n, text in outcome.failed.items())
    made = {change.key: change for change in done}
    after = (settled(made[owned.key], owned) if owned.key in made else owned for owned in entries)
    seen = outcome.seen or replace(carried.seen, inventory=tuple(filter(None, after)), token=outcome.token)
    return Carried("applied", seen, (*carried.done, *done), (*carried.failures, *failures))


def possible(changes: tuple[Change, ...], failures: Iterable[Failure]) -> tuple[Change, ...]:
    """What may go on after failures in the stages before, as `run` in apply.sh has it within one."""
    stopped = {failure.owner for failure in failures}
    left: list[Change] = []
    for change in changes:
        if {change.owner, "", *change.waits} & stopped:
            stopped.add(change.owner)
        else:
            left.append(change)
    return tuple(left)


def still(spec: HostSpec, changes: Iterable[Change], answering: Answering) -> Check:
    """Who answers now has to answer then. One may have reasons of their own not to: it is the host's doing when more
    than half of the customers fall silent."""
    whose = endpoints(spec, changes)
    before = answering(frozenset(whose))
    asked = {whose[endpoint] for endpoint in before}
    return lambda: 2 * len(asked - {whose[endpoint] for endpoint in answering(before)}) <= len(asked)


def always() -> bool:
    return True


def endpoints(spec: HostSpec, changes: Iterable[Change]) -> dict[Endpoint, str]:
    """What the jails publish to everybody over TCP, and whose it is, of jails to which nothing else happens."""
    changing = {change.owner for change in changes}
    given_up = {claim.partition("/")[0] for change in changes if change.before for claim in change.before.claims}
    jails = {jail.id: jail for jail in spec.jails if jail.id not in changing}
    rules = [part for part in spec.parts if isinstance(part, Rule) and part.subject in jails]
    open_to_all = [rule for rule in rules if rule.direction == "in" and rule.protocol == "tcp" and not rule.peers]
    found = {
        (jails[rule.subject].address, port): jails[rule.subject].customer for rule in open_to_all for port in rule.ports
    }
    return {endpoint: customer for endpoint, customer in found.items() if endpoint[0] not in given_up}


UNDECIDED = {
    "stale": "the host kept changing while it was looked at: is another reconciler at work?",
    "held": "the administrator's hold file appeared",
    "busy": "another apply holds the host's lock",
}


def idle(manifest: Manifest, planned: Plan, seen: Observation, asked: Pass) -> bool:
    """Nothing to do, or nothing that may be done. An inventory that says too little is something to do: one that was
    lost and adopted again, or one that an apply did not live to bring up to date."""
    settled = not planned.changes and not seen.unconfirmed and inventory(manifest, seen, planned) == seen.inventory
    unasked = asked.digest not in ("", planned.digest)
    return bool(settled or planned.refusal or seen.hold or seen.refusals or unasked)


def left(report: Report, planned: Plan, seen: Observation, asked: Pass) -> Report:
    """The report of a pass that changed nothing (any more)."""
    refusal = planned.refusal or "; ".join(seen.refusals)
    if asked.digest not in ("", planned.digest):
        refusal = f"the plan is {planned.digest or 'empty'} now, not {asked.digest}: look at it again"
    return replace(
        report,
        pending=planned.changes,
        plan=planned.digest if planned.changes else "",
        conflicts=planned.conflicts,
        refusal=refusal,
        approval=planned.approval,
        held=planned.held,
        hold=seen.hold,
        degraded=tuple(sorted(seen.degraded.items())),
        retained=retained(report.host, seen.inventory),
    )


def deliver(planned: Plan, wire: Wire, stock: Stock) -> list[Failure]:
    """Sends the archives that the plan unpacks; what cannot be had is a Failure."""
    failures = []
    for change in planned.changes:
        if change.resource is not None and change.resource.source is not None:
            try:
                with stock(change.resource.source) as archive:
                    wire.send(change.resource.name, archive)
            except FetchFailure as failure:
                failures.append(Failure(change.owner, change.key, str(failure)))
    return failures


def without(planned: Plan, unfetched: list[Failure]) -> tuple[Plan, list[Failure]]:
    """Leaves out the trees that could not be had, and the jails that were to run on them: it is their failure."""
    keys = {failure.key for failure in unfetched}
    if not keys:
        return planned, []
    theirs = [replace(f, owner=c.owner) for f in unfetched for c in planned.changes if c.owner and needs(c, f)]
    waiting = {failure.owner for failure in theirs}
    for change in planned.changes:  # in the order in which they wait for each other
        waiting |= {change.owner} if change.owner and change.waits & waiting else set()
    left_out = [c for c in planned.changes if c.key in keys or c.owner in waiting or c.waits & waiting]
    changes = tuple(c for c in planned.changes if c not in left_out)
    left = replace(planned, changes=changes, untouched=planned.untouched | waiting)
    return left, [*dict.fromkeys(theirs), *(f for f in unfetched if f.key not in {t.key for t in theirs})]


def needs(change: Change, failure: Failure) -> bool:
    """Whether the change puts something on the host that names the tree by its digest."""
    digest = failure.key.partition(" ")[2].encode()
    files = change.resource.files if change.resource else ()
    return any(digest in file.content for file in files if isinstance(file.content, bytes))


def finished(report: Report, manifest: Manifest, carried: Carried, unfetched: list[Failure], asked: Pass) -> Report:
    """What was done, and what a look at the host right afterwards says is left."""
    again = plan(manifest, carried.seen, replace(asked.given, reviewed=True, unwell={}))
    after = left(report, again, carried.seen, Pass(asked.given))
    return replace(after, done=carried.done, failures=(*unfetched, *carried.failures))
