"""The host's own network and firewall: what can cut it off, and is taken back unless somebody confirms it.

In: a platform's resources, Changes and their Steps. Out: the Manifest with a digest of the ground alone, and what it
takes to go back from a stage. Data is never ground, nor is anything of a jail's. Must not know any type: platforms say
which are theirs (`UNDO`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files

from reconciler.model import Change, File, HostSpec, Jail, Link, Manifest, Redirect, Resource, Rule, Tunnel
from reconciler.platforms.files import ETC, STATE
from reconciler.platforms.steps import COMPLETE, REMOVE_ITSELF, Delete, Step, fed, quote, render

Undo = Callable[[Change], tuple[tuple[Step, ...], tuple[Step, ...]]]
"""What takes down the new, before the old files are back; what brings back the old, after."""
REVERT = File(f"{ETC}/revert.sh", files("reconciler.platforms").joinpath("revert.sh").read_bytes())
"""What a boot begins with."""
LONGEST = 5
"""How many times as long as for a confirmation a host waits for the end of its own work. An emulated one needs minutes
for what others do in a second."""
STAMPS = (f"{STATE}/firewall.stamp", f"{STATE}/anchor.stamp")


@dataclass(frozen=True, slots=True)
class WayBack:
    """From a stage to what was before it. `wanted` is the digest of the ground that is tried."""

    wanted: str
    files: tuple[str, ...]
    take_down: tuple[Step, ...]
    bring_back: tuple[Step, ...]


def manifest(spec: HostSpec, listed: Callable[[HostSpec], Iterable[Resource]], ground: Collection[str]) -> Manifest:
    resources = tuple(listed(spec))
    own = (resource for resource in listed(bare(spec)) if resource.type in ground)
    return Manifest(spec.name, resources, states_digest(resources), states_digest(own))


def bare(spec: HostSpec) -> HostSpec:
    """The host without its jails: which of them it has does not make it a host that cuts itself off."""
    return replace(spec, parts=tuple(part for part in spec.parts if not of_jail(part)))


def of_jail(part: object) -> bool:
    return isinstance(part, (Jail, Link, Tunnel, Redirect)) or (
        isinstance(part, Rule) and part.subject + part.sake != ""
    )


def states_digest(resources: Iterable[Resource]) -> str:
    states = json.dumps([(r.key, sorted(r.state.items())) for r in resources])
    return hashlib.sha256(states.encode()).hexdigest()


def way_back(stage: Iterable[tuple[Change, tuple[Step, ...]]], undo: Mapping[str, Undo], wanted: str) -> WayBack:
    """The last that was done is undone first."""
    paths: dict[str, None] = dict.fromkeys(STAMPS)
    take_down: list[Step] = []
    bring_back: list[Step] = []
    for change, steps in stage:
        if change.type not in undo:
            continue
        paths |= dict.fromkeys(file.path for file in (change.resource.files if change.resource else ()))
        paths |= dict.fromkeys(step.path for step in steps if isinstance(step, Delete))
        down, back = undo[change.type](change)
        take_down[:0] = down
        bring_back += back
    return WayBack(wanted, tuple(paths), tuple(take_down), tuple(bring_back))


def functions(way: WayBack) -> Iterator[str]:
    """What `revert` in apply.sh calls, and how it is called: with its name, on the script as `arm` has kept it."""
    yield "guarded=yes"
    for name, steps in (("take_down", way.take_down), ("bring_back", way.bring_back)):
        yield from (f"{name}() {{", *map(render, steps), ":", "}")
    yield '[ $# -eq 0 ] || { "$@"; exit; }'


def arming(way: WayBack, seconds: float) -> str:
    return fed(f"arm {seconds:g} {LONGEST * seconds:g} {quote(way.wanted)}", way.files)


def answer(function: str, armed: str, prelude: str, apply: str) -> str:
    """A script that confirms an apply, or takes it back at once; prints what became of it."""
    call = " ".join([function, *map(quote, armed.split())])
    return "\n".join([REMOVE_ITSELF, prelude, apply, call, COMPLETE, ""])


def was_there(change: Change) -> bool:
    """By what was seen, and not by the inventory: it may know what never came to be, or nothing of what is."""
    if change.resource is None:
        return True
    differing = {attribute: was for attribute, was, _ in change.differences}
    return any(differing.get(name, "same") for name in change.resource.state if not name.startswith("/"))


def nothing_but_files(change: Change) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    return (), ()
