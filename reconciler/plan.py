"""Manifest × Observation → Plan: what differs, in which order it is mended, and what is held back.

In: what must be, what is, and today's date. Out: Changes in words a customer understands, conflicts, a guard's
refusal, and a digest that names exactly these changes. The order is the manifest's; removal is the inventory
reversed; one exception, by data: what takes a claim comes after what releases it. Pure; knows no platform beyond its
keys' types.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from difflib import unified_diff
from graphlib import CycleError, TopologicalSorter
from itertools import islice

from reconciler.model import (
    HEALTH,
    Change,
    Failure,
    File,
    Guard,
    HostSpec,
    Manifest,
    Observation,
    Owned,
    Plan,
    Resource,
    Retained,
    Rule,
    approval,
    whose,
)

RETENTION = timedelta(days=14)
"""How long the data of a removed jail is kept at least; for good, unless somebody approves of its end."""
DATA, JAIL = "data/", "jail/"
"""Types that every platform has: what is retained instead of removed, and what runs."""
DATASET = "dataset/"
"""What data lies in: it is let go, and stays as it is."""


@dataclass(frozen=True)
class Circumstances:
    """What a plan depends on beside the two states. `today` is an input: plans hold no clock."""

    today: date
    guard: Guard = field(default_factory=Guard)
    approved: frozenset[str] = frozenset()
    """Approvals that are valid today."""
    released: frozenset[str] = frozenset()
    """Changes, by `digest_of`, that one of those was of when it came: half of them may be done by now."""
    vanishing: frozenset[str] = frozenset()
    """Jails that go when too many of the whole fleet do."""
    frozen: frozenset[str] = frozenset()
    """Customers of whom no good commit is known: a host that has anything of theirs is left as it is."""
    untouched: frozenset[str] = frozenset()
    """Owners that are left as they are: a jail of which a secret cannot be opened, say."""
    adopt: bool = False
    """Take what exists under our keys for ours: for a host whose inventory was lost."""
    newcomer: str = ""
    """The reconciler's version, when another one was at work on the host last."""
    reviewed: bool = False
    """Somebody has seen this plan: the guard lets it through."""
    unwell: Mapping[str, str] = field(default_factory=dict)
    """Jails that are to be restarted now, and why. Of a host on hold none is, nor where that would trip a guard."""


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


def frozen_refusal(seen: Observation, given: Circumstances) -> str:
    held = sorted(set(map(whose, holders(seen.inventory))) & given.frozen)
    return f"no good commit is known of {', '.join(held)}, which has jails here: nothing is changed" if held else ""


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


def words(resource: Resource, differences: tuple[tuple[str, str, str], ...], new: bool, returns: bool) -> str:
    if returns:
        return f"bring back {resource.words}, as it was left"
    if new:
        return f"create {resource.words}"
    files = {file.path for file in resource.files}
    return f"change {resource.words}: {'; '.join(spoken(d, files) for d in differences)}"


def spoken(difference: tuple[str, str, str], files: set[str]) -> str:
    """A file's state is digests: what differs in it is told by the diff, and nothing at all of a secret."""
    attribute, was, want = difference
    if attribute not in files and short(want) != want:
        return f"{attribute} {'something else' if short(was) != was else short(was) or 'missing'}"
    if attribute not in files:
        return f"{attribute} {was or 'missing'} → {want}"
    if not was:
        return f"{attribute} is missing"
    if was.rpartition(" ")[0] != want.rpartition(" ")[0]:
        return f"{attribute} is {was.rpartition(' ')[0]}, not {want.rpartition(' ')[0]}"
    return f"{attribute} differs"


def short(value: str) -> str:
    """Digests are told apart by their first digits."""
    return re.sub(r"\b([0-9a-f]{8})(?:[0-9a-f]{24,}|(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b", r"\1", value)


def diffs(resource: Resource, differences: Iterable[tuple[str, str, str]], seen: Observation) -> Iterator[str]:
    differing = {attribute for attribute, _, _ in differences}
    for file in resource.files:
        if file.path in differing and file.path in seen.contents:
            yield from file_diff(file, seen.contents[file.path])


DIFF = 200
"""Lines of a file's diff that are shown: a new list of attackers has thousands."""
LONG = 5000
"""Lines of a file beyond which difflib takes seconds."""


def file_diff(file: File, was: str) -> Iterator[str]:
    if isinstance(file.content, bytes):
        before, after = was.splitlines(), file.content.decode("utf-8", "replace").splitlines()
        if max(len(before), len(after)) > LONG:
            lines = gone_and_new(before, after)
        else:
            lines = unified_diff(before, after, file.path, file.path, n=2, lineterm="")
        yield from (f"{line}\n" for line in islice(lines, DIFF))
        if rest := sum(1 for _ in lines):
            yield f"… and {rest} lines more\n"


def gone_and_new(before: list[str], after: list[str]) -> Iterator[str]:
    """Lines without their surroundings and wherever they stand."""
    had, has = set(before), set(after)
    yield from (f"-{line}" for line in before if line not in has)
    yield from (f"+{line}" for line in after if line not in had)


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


def holders(inventory: Iterable[Owned]) -> frozenset[str]:
    """Who has something on the host."""
    return frozenset(owned.owner for owned in inventory)


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


# ── data of jails that are gone ──────────────────────────────────────────────────────────────────────────────


def purges(manifest: Manifest, inventory: Iterable[Owned], given: Circumstances) -> Iterator[Change]:
    """What of them is deleted: last of all, after its day, and by an approval of exactly this. Nothing of a jail that
    is wanted again."""
    owners = {resource.owner for resource in manifest.resources}
    for owned in inventory:
        name = purge_of(manifest.host, owned)
        over = owned.retained != "" and owned.retained < given.today.isoformat()
        if over and name in given.approved and owned.key.startswith(DATA) and owned.owner not in owners:
            what = f"delete the data of {owned.owner}, kept until {owned.retained}, approved by {name}"
            yield Change("purge", owned.key, owned.owner, what, before=owned)


def purge_of(host: str, owned: Owned) -> str:
    """What the approval of its end is called. Kept until another day, it is the data of another life of the jail."""
    return approval("purge", host, owned.key, owned.undo, owned.retained)


def retained(host: str, inventory: Iterable[Owned]) -> tuple[Retained, ...]:
    return tuple(Retained(o.owner, o.retained, purge_of(host, o)) for o in inventory if o.retained)


# ── guards, inventory ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Held:
    """Why a plan waits, the approval that lets it go on, where there can be one, and of which changes that is."""

    why: str = ""
    approval: str = ""
    changes: tuple[str, ...] = ()


def held_back(manifest: Manifest, changes: list[Change], seen: Observation, given: Circumstances) -> Held:
    if changes and {manifest.ground, manifest.digest} & seen.refused:
        return Held(
            "this network and firewall have cut the host off before, and were taken back: correct the documents, or "
            "run `reconciler apply HOST --digest D` to try them again"
        )
    reasons = (too_many(manifest.host, changes, seen, given), other_version(changes, given))
    return next((advised(held) for held in reasons if held.why and not let_go(held, given)), Held())


def let_go(held: Held, given: Circumstances) -> bool:
    return held.approval in given.approved or (bool(held.changes) and given.released >= {*held.changes})


def advised(held: Held) -> Held:
    how = f"review the plan, and commit approvals/{held.approval}.yaml or run `reconciler apply HOST --digest D`"
    return replace(held, why=f"{held.why}: {how}")


def too_many(host: str, changes: Iterable[Change], seen: Observation, given: Circumstances) -> Held:
    """The changes that take jails down, when they are too many on this host or the fleet's jails that go are."""
    touched = [c for c in changes if c.key.startswith(JAIL) and c.disrupts]
    jails = sum(owned.key.startswith(JAIL) for owned in seen.inventory)
    going = [c for c in touched if c.resource is None and c.owner in given.vanishing]
    if trips(given.guard, len(touched), jails):
        return held(host, touched, f"{len(touched)} of {jails} jails would be removed or restarted at once", given)
    return held(host, going, f"{len(given.vanishing)} jails of the fleet would be removed at once", given)


def held(host: str, changes: Iterable[Change], why: str, given: Circumstances) -> Held:
    digests = tuple(sorted(digest_of(host, change) for change in changes))
    return Held(f"{why}, more than {given.guard.percent} %", approval("held", digests), digests) if digests else Held()


def other_version(changes: Iterable[Change], given: Circumstances) -> Held:
    """A new version of the reconciler wants things otherwise than the last one: nobody has asked for that. One approval
    is for all hosts, each of which shows what it would do."""
    count = len({change.owner for change in changes if change.disrupts})
    why = f"reconciler {given.newcomer} is new to this host, and would stop or restart {count} of its jails"
    return Held(why, approval("version", given.newcomer)) if given.newcomer and count else Held()


def trips(guard: Guard, count: int, of: int) -> bool:
    return count >= guard.minimum and count * 100 > guard.percent * of


def digest_of(host: str, change: Change) -> str:
    """Of what is there, and what is to become of it. Not of the commit, nor what else differs: a host on which much
    happens is approved of as well."""
    was = change.before.undo if change.before else ""
    said = json.dumps([host, change.action, change.key, was, disturbing(change)])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def disturbing(change: Change) -> list[tuple[str, str, str]]:
    """The differences for which the jail has to stop."""
    disrupts = change.resource.disrupts if change.resource else {}
    return [difference for difference in change.differences if difference[0] in disrupts]


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
