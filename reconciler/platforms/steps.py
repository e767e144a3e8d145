"""The vocabulary of an apply, and its one rendering: a script for `sh`.

In: Changes with their Steps, the inventory before and after. Out: a script that takes the lock, checks that the host
is still as it was observed, carries the changes out one owner independent of the other, and prints what became of
each. Every value goes through `quote`: nothing of a customer's reaches the shell as code. What the functions that a
script calls do is in `apply.sh` (both platforms) and in each platform's PRELUDE. No I/O, no host's real state.
"""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import assert_never

from reconciler.model import Change, File, Owned, Resource, Secret

quote = shlex.quote

APPLY = files("reconciler.platforms").joinpath("apply.sh").read_text()
INCOMING = "/var/lib/reconciler/incoming"
"""Where archives lie that were sent ahead of an apply, by the digest of their source."""
REMOVE_ITSELF = 'rm -f "$0"'
"""The first line of every script: the file it arrived in may hold secrets, and sh has it open by then."""
KEEP_ITSELF = '[ $# -gt 0 ] || { exec 8<"$0"; rm -f "$0"; }'
"""Of a script that knows the way back: `arm` puts it where it is called again, with the name of a function."""
COMPLETE = "# complete"
"""The last line of every script: a host runs none that arrived in part."""


@dataclass(frozen=True, slots=True)
class Put:
    """Write a file, directory or link: beside its place, then renamed over it."""

    file: File


@dataclass(frozen=True, slots=True)
class Delete:
    path: str


@dataclass(frozen=True, slots=True)
class Call:
    """A shell function of the prelude, with words."""

    function: str
    words: tuple[str, ...] = ()


Step = Put | Delete | Call


def content(file: File) -> bytes:
    return file.content.value if isinstance(file.content, Secret) else file.content


def render(step: Step) -> str:
    match step:
        case Put(file) if file.kind == "f":
            body = b64encode(content(file)).decode()
            head = f"put {quote(file.path)} {file.mode:04o} {file.owner}"
            return f"{head} <<'END'\n{body}\nEND"
        case Put(file) if file.kind == "d":
            return f"directory {quote(file.path)} {file.mode:04o} {file.owner}"
        case Put(file):
            return f"link {quote(file.path)} {quote(content(file).decode())}"
        case Delete(path):
            return f"delete {quote(path)}"
        case Call(function, words):
            return " ".join([function, *map(quote, words)])
        case _:
            assert_never(step)


# ── from a Change to its steps ───────────────────────────────────────────────────────────────────────────────

Make = Callable[[Change, Resource], Iterator[Step]]
Remove = Callable[[Owned], Iterator[Step]]


def carried_out(
    change: Change, make: Mapping[str, Make], remove: Mapping[str, Remove], purge: Mapping[str, Remove]
) -> tuple[Step, ...]:
    """By a platform's tables, type → steps; what is not in `make` is no more than its files."""
    if change.resource is not None:
        return (*make.get(change.resource.type, files_only)(change, change.resource),)
    assert change.before is not None
    if change.action == "retain":
        return (Call("retain", (change.before.undo, change.before.retained)),)
    undoing = purge if change.action == "purge" else remove
    if change.type not in undoing:
        return (Call("fail", (f"{change.key} was made by a newer reconciler: this one cannot remove it",)),)
    return (*undoing[change.type](change.before),)


def wanted_files(change: Change, resource: Resource) -> Iterator[File]:
    """Those that differ; a directory comes before what is in it, because `files` lists it so."""
    differing = {attribute for attribute, _, _ in change.differences}
    return (file for file in resource.files if file.path in differing)


def files_only(change: Change, resource: Resource) -> Iterator[Step]:
    return (Put(file) for file in wanted_files(change, resource))


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────


def entry(owned: Owned) -> str:
    """One line, fields between tabs; none of them can hold a tab or a newline, by their schemas."""
    fields = (
        f"{owned.position:06d}",
        owned.key,
        owned.owner,
        owned.retained,
        " ".join(sorted(owned.claims)),
        owned.undo,
    )
    return "\t".join(fields)


def parse_entry(line: str) -> Owned:
    position, key, owner, retained, claims, undo = line.split("\t")
    return Owned(key, owner, int(position), retained, frozenset(claims.split()), undo)


def settled(change: Change, during: Owned | None) -> Owned | None:
    """The entry once the change is done; None when the thing is gone. `during` still knows what was there before."""
    resource = change.resource
    if resource is not None and during is not None:
        return replace(during, owner=resource.owner, retained="", claims=resource.claims, undo=resource.undo)
    return change.before if change.action == "retain" else None


# ── the script ───────────────────────────────────────────────────────────────────────────────────────────────


def script(
    changes: Iterable[tuple[Change, tuple[Step, ...]]],
    inventory: Iterable[Owned],
    token: str,
    prelude: str,
    probe: str,
    back: Iterable[str] = (),
    armed: Iterable[str] = (),
    final: bool = True,
    observed: bool = True,
) -> str:
    """The whole apply. `token` names the inventory that the plan was made against, `inventory` is the grown one.
    `back` and `armed`: lines before and after that is written, of an apply that has to be confirmed. `final`: no other
    part follows; `observed`: it ends with a look at the host."""
    entries = {owned.key: owned for owned in inventory}
    back = (*back,)
    lines = [KEEP_ITSELF if back else REMOVE_ITSELF, prelude, APPLY, "observe() {", probe, "}", *back]
    lines += [fed(f"begin {quote(token)}", map(entry, entries.values())), *armed]
    for number, (change, steps) in enumerate(changes):
        lines += change_lines(number, change, steps, entries.get(change.key))
    lines += [*(["clean"] if final else []), "finish" if observed else "pause", COMPLETE, ""]
    return "\n".join(lines)


def fed(function: str, lines: Iterable[str]) -> str:
    """A call of a probe's function with these lines as its standard input."""
    return "\n".join([f"{function} <<'END'", *lines, "END"])


def observation(prelude: str, probe: str) -> str:
    """The script that only looks. What it sees comes in few large pieces: line by line each would be a packet, and
    take most of the reconciler's own time for this host."""
    return "\n".join(
        [REMOVE_ITSELF, prelude, "observe() {", probe, "}", "observe | dd obs=64k 2>/dev/null", COMPLETE, ""]
    )


def change_lines(number: int, change: Change, steps: tuple[Step, ...], during: Owned | None) -> Iterator[str]:
    """Each step is followed by `step`, which does nothing: tests that kill an apply at each step redefine it."""
    after = settled(change, during)
    yield f"change_{number}() {{"
    for step in steps:
        yield render(step)
        yield "step"
    if after is None:
        yield f"disown {quote(change.key)}"
        yield "step"
    elif after != during:
        yield f"own {quote(change.key)} {quote(entry(after))}"
        yield "step"
    yield "}"
    owners = (change.owner, *sorted(change.waits))
    yield f"run {number} {' '.join(quote(owner or '-') for owner in owners)}"
