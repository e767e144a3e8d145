"""Manifest × Observation → Plan: what differs, and in which order it is mended.

In: what must be, what is, and the circumstances. Out: Changes, conflicts, what a guard says to it, and a digest that
names exactly these changes. The order is the manifest's; removal is the inventory
reversed; one exception, by data: what takes a claim comes after what releases it. Pure; knows no platform beyond its
keys' types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from graphlib import CycleError, TopologicalSorter

from reconciler.differences import diffs, short, words
from reconciler.guards import Held, frozen_refusal, held_back
from reconciler.model import (
    DATA,
    HEALTH,
    JAIL,
    Change,
    Circumstances,
    Failure,
    HostSpec,
    Manifest,
    Observation,
    Owned,
    Plan,
    Resource,
    Rule,
    holders,
)
from reconciler.retention import RETENTION, purges

DATASET = "dataset/"
"""What data lies in: it is let go, and stays as it is."""


def plan(manifest: Manifest, seen: Observation, given: Circumstances) -> Plan:
    inventory = {owned.key: owned for owned in seen.inventory}
    found = (*displaced(manifest, inventory), *obstructed(manifest, seen))
    conflicts = (*found, *(() if given.adopt else foreign(manifest, seen, inventory)))
    unwell = {} if seen.hold or seen.refusals else given.unwell
    making = [c for r in manifest.resources if (c := making_of(r, seen, inventory) or revival(r, unwell, inventory))]
    first, last = removals(manifest, seen.inventory, given.today, wanted=frozenset().union(*map(taken, making)))
    making = waiting(making, givers=(*first, *last, *making))
    ordered, exchanged = by_claims(making)
    untouched = given.untouched | {failure.owner for failure in (*conflicts, *exchanged)}
    vain = tuple(in_vain(ordered, untouched))
    conflicts, untouched = (*conflicts, *exchanged, *vain), untouched | {failure.owner for failure in vain}
    last = unused(last, frozenset(c.owner for c in (*first, *ordered)), untouched & holders(seen.inventory))
    ended = purges(manifest, seen.inventory, given)
    changes = [c for c in (*first, *ordered, *last, *ended) if not untouched & {c.owner, ""}]
    waits = Held(frozen_refusal(seen, given))
    if not waits.why and not given.reviewed:
        waits = held_back(manifest, changes, seen, given)
    if waits.why and unwell:
        return plan(manifest, seen, replace(given, unwell={}))
    own = digest(manifest.host, changes)
    return Plan(manifest.host, tuple(changes), own, conflicts, waits.why, untouched, waits.approval, waits.changes)


def digest(host: str, changes: Iterable[Change]) -> str:
    listed = [(c.action, c.key, c.owner, c.differences, c.disrupts) for c in changes]
    return hashlib.sha256(json.dumps([host, listed]).encode()).hexdigest()[:16]


def owner_digests(manifest: Manifest, spec: HostSpec) -> tuple[tuple[str, str], ...]:
    """(jail's id, digest of all that is wanted of it, its rules included): tells which jails a commit changes."""
    states: dict[str, list[object]] = {}
    for rule in sorted((part for part in spec.parts if isinstance(part, Rule) and part.subject), key=repr):
        states.setdefault(rule.subject, []).append(repr(rule))
    for resource in manifest.resources:
        states.setdefault(resource.owner, []).append((resource.key, sorted(resource.state.items())))
    return tuple((o, hashlib.sha256(json.dumps(s).encode()).hexdigest()) for o, s in sorted(states.items()) if o)


# ── what is not ours ─────────────────────────────────────────────────────────────────────────────────────────


def foreign(manifest: Manifest, seen: Observation, inventory: Mapping[str, Owned]) -> Iterator[Failure]:
    """What is there under a key that is not in the inventory, unless something that is ours claims it."""
    claimed = frozenset(claim for owned in seen.inventory for claim in owned.claims)
    for resource in manifest.resources:
        if resource.key in seen.present and resource.key not in inventory and not resource.claims & claimed:
            reason = (
                f"{resource.words} exists on the host, but not in our inventory: somebody else made it. "
                "Remove it, or run `reconciler apply --adopt` if it is ours"
            )
            yield Failure(resource.owner, resource.key, reason)


def displaced(manifest: Manifest, inventory: Mapping[str, Owned]) -> Iterator[Failure]:
    """Data does not move by editing where it should be: the jail would start on nothing."""
    for resource in manifest.resources:
        before = inventory.get(resource.key)
        if resource.type.startswith(DATA) and before and before.undo not in ("", resource.undo):
            reason = f"the data of {resource.name} is at {before.undo}, and does not move to {resource.undo} by editing"
            yield Failure(resource.owner, resource.key, reason)


def obstructed(manifest: Manifest, seen: Observation) -> Iterator[Failure]:
    """What even --adopt does not take."""
    for resource in manifest.resources:
        if resource.key in seen.obstacles:
            yield Failure(resource.owner, resource.key, seen.obstacles[resource.key])


# ── making and mending ───────────────────────────────────────────────────────────────────────────────────────


def making_of(resource: Resource, seen: Observation, inventory: Mapping[str, Owned]) -> Change | None:
    """The Change this resource needs, or None."""
    is_now = seen.states.get(resource.key, {})
    differences = tuple((a, is_now.get(a, ""), want) for a, want in resource.state.items() if is_now.get(a) != want)
    before = inventory.get(resource.key)
    kept = before is not None and before.retained != ""
    if not differences and not kept:
        return None
    new = before is None or not is_now
    returns = kept and (resource.undo not in resource.state or resource.undo in is_now)
    return Change(
        action="create" if new else "update",
        key=resource.key,
        owner=resource.owner,
        words=words(resource, differences, new or kept, returns),
        disrupts=disruption(resource, differences, seen),
        resource=resource,
        differences=differences,
        before=before,
        diff="".join(diffs(resource, differences, seen)),
    )


def revival(resource: Resource, unwell: Mapping[str, str], inventory: Mapping[str, Owned]) -> Change | None:
    """Of a jail that is as it should be, and does not do its work. What changes it anyway comes first."""
    if not resource.type.startswith(JAIL) or resource.owner not in unwell or resource.key not in inventory:
        return None
    return Change(
        action="update",
        key=resource.key,
        owner=resource.owner,
        words=f"restart {resource.words}: {unwell[resource.owner]}",
        disrupts=resource.disrupts[HEALTH],
        resource=resource,
        differences=((HEALTH, unwell[resource.owner], "well"),),
        before=inventory[resource.key],
    )


def disruption(resource: Resource, differences: Iterable[tuple[str, str, str]], seen: Observation) -> str:
    """Only what was there can be disturbed."""
    disrupts = {**resource.disrupts, **seen.disrupts.get(resource.key, {})}
    return next((disrupts[a] for a, was, _ in differences if was and a in disrupts), "")


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────


def by_claims(changes: list[Change]) -> tuple[list[Change], list[Failure]]:
    """The same order, but what takes a claim after what releases it; those that exchange claims are Failures."""
    releasing = {claim: c for c in changes for claim in released(c)}
    waits = {c.key: [releasing[x] for x in sorted(taken(c) & set(releasing)) if releasing[x] is not c] for c in changes}
    try:
        TopologicalSorter({key: [r.key for r in them] for key, them in waits.items()}).prepare()
    except CycleError as error:
        return without_exchange(changes, set(error.args[1]))
    ordered: dict[str, Change] = {}

    def emit(change: Change) -> None:
        for releaser in waits[change.key]:
            emit(releaser)
        ordered.setdefault(change.key, change)

    for change in changes:
        emit(change)
    return list(ordered.values()), []


def without_exchange(changes: list[Change], cycle: set[str]) -> tuple[list[Change], list[Failure]]:
    owners = sorted({c.owner for c in changes if c.key in cycle})
    what = "addresses, interfaces or ports"
    reason = f"{' and '.join(owners)} exchange {what}: do it in two commits, through a third one"
    ordered, others = by_claims([c for c in changes if c.owner not in owners])
    return ordered, [*others, *(Failure(owner, "", reason) for owner in owners)]


def waiting(changes: Iterable[Change], givers: Iterable[Change]) -> list[Change]:
    """The changes, each knowing the owners who have to give something up before it."""
    owners = {claim: giver.owner for giver in givers for claim in released(giver)}
    return [replace(c, waits=frozenset(owners[x] for x in taken(c) & set(owners)) - {c.owner}) for c in changes]


def in_vain(changes: Iterable[Change], untouched: frozenset[str]) -> Iterator[Failure]:
    """What waits for somebody who is left as they are, and what waits for that."""
    for change in changes:
        lasting = change.waits & untouched
        if lasting and change.owner not in untouched:
            reason = f"{change.words}: {', '.join(sorted(lasting))} has the address, interface or port still"
            yield Failure(change.owner, change.key, reason)
            yield from in_vain(changes, untouched | {change.owner})
            return


def released(change: Change) -> frozenset[str]:
    was = change.before.claims if change.before else frozenset()
    return was - (change.resource.claims if change.resource else frozenset())


def taken(change: Change) -> frozenset[str]:
    """All that it wants: after a kill the inventory does not tell whether it has it already."""
    return change.resource.claims if change.resource else frozenset()


# ── removing ─────────────────────────────────────────────────────────────────────────────────────────────────


def removals(
    manifest: Manifest, inventory: Iterable[Owned], today: date, wanted: frozenset[str]
) -> tuple[list[Change], list[Change]]:
    """What goes with its jail comes first, and what holds a claim that is wanted; what the host or a jail that stays no
    longer needs comes last, when nothing uses it any more."""
    keys = {resource.key for resource in manifest.resources}
    owners = {resource.owner for resource in manifest.resources}
    gone = [o for o in sorted(inventory, key=lambda o: -o.position) if o.key not in keys and not o.retained]
    early = {o.key for o in gone if o.owner not in owners or o.claims & wanted}
    changes = [removal(o, today) for o in gone]
    return [c for c in changes if c.key in early], [c for c in changes if c.key not in early]


def unused(last: Iterable[Change], busy: frozenset[str], untouched: frozenset[str]) -> list[Change]:
    """What the host itself no longer needs goes only when every jail has become what it should be: one that is left as
    it is, or that fails on the way, may still run on the files that its next version does without."""
    waits = busy - {""}
    return [replace(c, waits=waits) if not c.owner else c for c in last if c.owner or not untouched]


def removal(owned: Owned, today: date) -> Change:
    kind, _, name = owned.key.partition(" ")
    noun = kind.partition("/")[0]
    if kind.startswith(DATA):
        until = (today + RETENTION).isoformat()
        kept = replace(owned, retained=until)
        return Change("retain", owned.key, owned.owner, f"keep the data of {name}, until {until} at least", before=kept)
    if kind.startswith(DATASET):
        return Change("release", owned.key, owned.owner, f"leave dataset {name} as it is", before=owned)
    disrupts = f"jail {name} stops" if kind.startswith(JAIL) else ""
    return Change("remove", owned.key, owned.owner, f"remove {noun} {short(name)}", disrupts, before=owned)


# ── inventory ────────────────────────────────────────────────────────────────────────────────────────


def inventory(manifest: Manifest, seen: Observation, planned: Plan) -> tuple[Owned, ...]:
    """What is ours while the plan is under way: all that is, and all that is to be made.

    Where something changes, its entry goes on knowing what was there, and `steps.settled` replaces it when the change
    is done: an apply that is killed in between must not forget which address or interface was to be given back.
    """
    ours = {
        resource.key: Owned(resource.key, resource.owner, position, "", resource.claims, resource.undo)
        for position, resource in enumerate(manifest.resources)
        if resource.owner not in planned.untouched
    }
    under_way = {
        change.key: replace(was, position=ours[change.key].position, claims=was.claims | ours[change.key].claims)
        for change in planned.changes
        if (was := change.before) and change.key in ours
    }
    entries = {owned.key: owned for owned in seen.inventory} | ours | under_way
    return tuple(sorted(entries.values(), key=lambda o: (o.position, o.key)))
