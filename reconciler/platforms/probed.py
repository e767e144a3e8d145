"""What every platform's probe prints alike → an Observation: files, the inventory, the hold file.

In: lines of fields between tabs, each beginning with a word that says what it is about, and the Manifest they were
asked for. Out: Lines, and an Observation with the same attribute names as the Manifest's states; a line that is
missing means the thing is missing. What runs is each platform's own. Must not know how anything is changed.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from reconciler.model import File, Manifest, Observation, Owned, Resource, Secret
from reconciler.platforms.files import file_digest
from reconciler.platforms.steps import parse_entry

KINDS = {"f": "f", "d": "d", "l": "l", "Regular File": "f", "Directory": "d", "Symbolic Link": "l"}
"""As find(1) and stat(1) call them."""


@dataclass(frozen=True)
class Lines:
    """The probe's lines by their first word."""

    by_tag: Mapping[str, list[list[str]]]

    def of(self, tag: str) -> list[list[str]]:
        return self.by_tag.get(tag, [])

    def pairs(self, tag: str) -> dict[str, str]:
        return {fields[0]: fields[1] for fields in self.of(tag)}

    def first(self, tag: str) -> str:
        return next((fields[0] for fields in self.of(tag)), "")

    @cached_property
    def files(self) -> dict[str, list[str]]:
        """Path → type, mode, owner, target."""
        return {fields[0]: fields[1:] for fields in self.of("file")}

    @cached_property
    def differing(self) -> dict[str, str]:
        return self.pairs("bad")

    @cached_property
    def salted(self) -> dict[str, str]:
        return self.pairs("salted")


def grouped(output: bytes, fields: Mapping[str, int]) -> dict[str, list[list[str]]]:
    """`fields`: how many follow a tag, where the last one may hold tabs."""
    by_tag: dict[str, list[list[str]]] = {}
    for line in output.decode("utf-8", "replace").splitlines():
        tag, _, rest = line.partition("\t")
        by_tag.setdefault(tag, []).append(rest.split("\t", fields[tag] - 1) if tag in fields else rest.split("\t"))
    return by_tag


def observation(
    manifest: Manifest,
    lines: Lines,
    runtime: Callable[[Resource], Mapping[str, str]],
    settings: Collection[str],
    degraded: Iterable[tuple[str, str]],
    refusals: Iterable[str],
) -> Observation:
    """`settings`: types whose runtime value is there whether or not anybody wants one."""
    states = {r.key: {**dict(file_states(r, lines)), **runtime(r)} for r in manifest.resources}
    return Observation(
        states=states,
        present=frozenset(r.key for r in manifest.resources if present(r, states[r.key], settings)),
        inventory=tuple(owned for owned in map(entry_of, lines.of("own")) if owned),
        token=lines.first("token"),
        unconfirmed=bool(lines.of("armed")),
        refused=frozenset(fields[0] for fields in lines.of("refused")),
        contents={path: b64decode(body).decode("utf-8", "replace") for path, _, body in lines.of("bad")},
        degraded=dict(degraded),
        hold=next((f"since {date}: {text.strip()}" for date, text in lines.of("hold")), ""),
        refusals=(
            *(f"{fields[0]} is missing on the host" for fields in lines.of("need")),
            *(f"the inventory has a line that is not ours: {' '.join(f)}" for f in lines.of("own") if not entry_of(f)),
            *refusals,
        ),
    )


def entry_of(fields: list[str]) -> Owned | None:
    try:
        return parse_entry("\t".join(fields))
    except ValueError:
        return None


def present(resource: Resource, state: Mapping[str, str], settings: Collection[str]) -> bool:
    """Directories are shared and settings are always there: neither says that somebody made this thing."""
    paths = {file.path for file in resource.files}
    if any(not value.startswith("directory ") for name, value in state.items() if name in paths):
        return True
    return resource.type not in settings and any(name not in paths for name in state)


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────


def file_states(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    for file in resource.files:
        found = lines.files.get(file.path)
        if found:
            yield file.path, described(file, found, lines)


SPECIAL = {"p": "pipe", "s": "socket", "b": "device", "c": "device"}


def described(file: File, found: list[str], lines: Lines) -> str:
    """In the words of `files.described`."""
    kind, mode, owner, target = found
    if KINDS.get(kind) == "l":
        return f"link to {target}"
    access = f"{int(mode, 8):04o} {owner}"
    if KINDS.get(kind) == "d":
        return f"directory {access}"
    if KINDS.get(kind) != "f":
        return f"{SPECIAL.get(kind, 'something else')} {access}"
    if isinstance(file.content, Secret):
        return f"{access} {lines.salted.get(file.path, '')}"
    return f"{access} {lines.differing.get(file.path) or file_digest(file)}"


# ── what runs, where it is told alike ────────────────────────────────────────────────────────────────────────


def observed_tree(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    verdict = lines.pairs("tree").get(resource.name)
    if verdict:
        yield "contents", verdict


def observed_sysctl(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    yield "value", lines.pairs("sysctl").get(resource.name, "")


def observed_data(resource: Resource, lines: Lines) -> Iterator[tuple[str, str]]:
    for path, state in resource.state.items():
        if state == "there" and KINDS.get(lines.files.get(path, [""])[0]) == "d":
            yield path, "there"


def observed_ruleset(resource: Resource, lines: Lines, whose: str = "") -> Iterator[tuple[str, str]]:
    """What the kernel holds is the file it was loaded from, as long as its own dump is the one taken right after."""
    dump = lines.first(f"{whose}dump")
    if dump:
        loaded, _, then = lines.first(f"{whose}stamp").partition(" ")
        yield "kernel", loaded if dump == then else "changed by hand"


def mebibytes(size: str) -> str:
    """Bytes → Mi; what is not a whole number of them was not written by us and stays as it is."""
    return f"{int(size) >> 20}Mi" if size.isdigit() and int(size) % (1 << 20) == 0 else size
