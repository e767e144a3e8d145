"""One pass over one host: reads like the diagram in the README. Start here.

In: a HostSpec and the ways to its host. Out: a Report; never an exception for what a host or a fetch does wrong.
Level-based: a pass knows nothing of what woke it, and a second one right after finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO

from reconciler.archives import FetchFailure
from reconciler.model import Change, Failure, HostSpec, Manifest, Observation, Plan, Report, Source
from reconciler.plan import Circumstances, inventory, owner_digests, plan
from reconciler.platforms import PLATFORMS
from reconciler.remote import RemoteFailure
from reconciler.wire import Outcome, Wire

ATTEMPTS = 3
"""How often a plan is made anew because the host changed between look and apply."""
Stock = Callable[[Source], BinaryIO]
"""Where archives come from, made safe to unpack."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass was asked: by default, to do whatever is needed."""

    given: Circumstances
    apply: bool = True
    digest: str = ""
    """Apply only if this is the digest of the plan."""


def reconcile(spec: HostSpec, wire: Wire, stock: Stock, asked: Pass) -> Report:
    """Desired state → plan → host → report. The whole program is around this function."""
    manifest = PLATFORMS[spec.platform].lower(spec)
    report = Report(spec.name, manifest.digest, owner_digests(manifest, spec))
    try:
        for _ in range(ATTEMPTS):
            seen = wire.observe(manifest)
            planned = plan(manifest, seen, asked.given)
            if not asked.apply or idle(manifest, planned, seen, asked):
                return left(report, planned, seen, asked)
            todo, unfetched = without(planned, deliver(planned, wire, stock))
            outcome = wire.apply(manifest, todo.changes, inventory(manifest, seen, todo), seen.token)
            if outcome.verdict == "applied":
                return finished(report, manifest, todo, outcome, unfetched, asked)
        return replace(report, refusal=UNDECIDED[outcome.verdict])
    except RemoteFailure as failure:
        return replace(report, unreachable=str(failure))


UNDECIDED = {
    "stale": "the host kept changing while it was looked at: is another reconciler at work?",
    "held": "the administrator's hold file appeared",
    "busy": "another apply holds the host's lock",
}


def idle(manifest: Manifest, planned: Plan, seen: Observation, asked: Pass) -> bool:
    """Nothing to do, or nothing that may be done. An inventory that says too little is something to do: one that was
    lost and adopted again, or one that an apply did not live to bring up to date."""
    settled = not planned.changes and inventory(manifest, seen, planned) == seen.inventory
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
        hold=seen.hold,
        degraded=tuple(sorted(seen.degraded.items())),
        retained=tuple((o.owner, o.retained) for o in seen.inventory if o.retained),
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


def finished(
    report: Report, manifest: Manifest, planned: Plan, outcome: Outcome, unfetched: list[Failure], asked: Pass
) -> Report:
    """What was done, and what a look at the host right afterwards says is left."""
    assert outcome.seen is not None
    numbered = dict(enumerate(planned.changes))
    failures = [Failure(numbered[n].owner, numbered[n].key, text) for n, text in outcome.failed.items()]
    again = plan(manifest, outcome.seen, replace(asked.given, reviewed=True))
    after = left(report, again, outcome.seen, Pass(asked.given))
    done = tuple(numbered[n] for n in sorted(outcome.done))
    return replace(after, done=done, failures=(*unfetched, *failures))
