"""What holds a plan back until somebody has seen it: too much at once, what cut a host off before, a version of ours.

In: a plan's changes, the Observation, the circumstances. Out: why it waits, and the approval that lets it go. Pure;
must not know how the changes came about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from reconciler.model import (
    JAIL,
    Change,
    Circumstances,
    Guard,
    Manifest,
    Observation,
    approval,
    holders,
    whose,
)


def frozen_refusal(seen: Observation, given: Circumstances) -> str:
    held = sorted(set(map(whose, holders(seen.inventory))) & given.frozen)
    return f"no good commit is known of {', '.join(held)}, which has jails here: nothing is changed" if held else ""


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
