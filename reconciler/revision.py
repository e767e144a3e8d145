"""From a commit to a Fleet: what the documents say, and which revision of them is in force.

In: snapshots (a commit's tree, a directory). Out: a Compiled (fleet and problems, located), or a Settled: the newest
mixture of commits that has no Problem in it. A Problem in a customer's folder holds that customer at its last good
commit; one in staff's documents holds everything. Only git is asked, so forgetting everything changes nothing. What
was loaded is kept by blob, what was resolved by folder: a commit that touches one file loads one file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from reconciler.load import ignored, load, place, unreadable
from reconciler.model import Document, Fleet, Problem, Revision, SecretFile, problem
from reconciler.repo import Entry, Snapshot, Tree, Unread
from reconciler.resolve import Folder, Resolved, resolve
from reconciler.schemas import customer_of

HISTORY = 100
"""How many commits back a good one is looked for."""

Loaded = Document | SecretFile | tuple[Problem, ...]
Placed = Mapping[str, str]
"""Jail's id → the host it was last seen on: a jail with data does not move by editing a field."""


class History(Protocol):
    """What settling asks of a repository."""

    def tree(self, commit: str, under: str = "") -> Tree: ...

    def history(self, commit: str, path: str = "", limit: int = 100) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Compiled:
    """`problems` by customer; "" is staff's."""

    fleet: Fleet
    problems: Mapping[str, tuple[Problem, ...]]

    @property
    def all_problems(self) -> tuple[Problem, ...]:
        return tuple(sorted(p for found in self.problems.values() for p in found))


@dataclass(frozen=True, slots=True)
class Settled:
    """`problems` are those of the newest commit: what somebody has to mend. No fleet: no good commit was found."""

    head: str
    revision: Revision
    fleet: Fleet | None
    problems: tuple[Problem, ...] = ()


@dataclass
class Compiler:
    """Compiles snapshots, and remembers what it can use again for the next one."""

    _loaded: dict[tuple[str, str], Loaded] = field(default_factory=dict)
    _groups: dict[str, dict[str, Entry]] = field(default_factory=dict)
    _folders: dict[str, Folder] = field(default_factory=dict)
    _resolved: Resolved | None = None

    def compile(
        self, snapshot: Snapshot, frozen: frozenset[str] = frozenset(), placed: Placed | None = None
    ) -> Compiled:
        groups = grouped(snapshot.entries)
        self._folders = {c: self._folder(c, g, snapshot) for c, g in groups.items()}
        self._groups = groups
        self._resolved = resolve(self._folders.values(), self._resolved, frozen)
        found = dict(self._resolved.problems)
        for customer, moves in moved(self._resolved.fleet, placed or {}).items():
            found[customer] = (*found.get(customer, ()), *moves)
        return Compiled(self._resolved.fleet, {c: located(p, snapshot) for c, p in found.items()})

    def _folder(self, customer: str, entries: dict[str, Entry], snapshot: Snapshot) -> Folder:
        known = self._folders.get(customer)
        if known is not None and entries == self._groups.get(customer) and all(e.sha for e in entries.values()):
            return known
        fresh = [path for path, e in entries.items() if not e.sha or (path, e.sha) not in self._loaded]
        read = {path: loaded(path, content) for path, content in snapshot.read(fresh)}
        self._loaded.update({(path, entries[path].sha): value for path, value in read.items() if entries[path].sha})
        values = [read[path] if path in read else self._loaded[path, e.sha] for path, e in entries.items()]
        documents = tuple(v for v in values if isinstance(v, Document | SecretFile))
        return Folder(customer, documents, tuple(p for v in values if isinstance(v, tuple) for p in v))


def grouped(entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    """By customer; files that are nobody's documents are left out."""
    groups: dict[str, dict[str, Entry]] = {"": {}}
    for path, entry in entries.items():
        if not ignored(path):
            groups.setdefault(customer_of(path), {})[path] = entry
    return groups


def loaded(path: str, content: bytes | Unread) -> Loaded:
    return (unreadable(path, content.reason),) if isinstance(content, Unread) else load(path, content)


def located(problems: Iterable[Problem], snapshot: Snapshot) -> tuple[Problem, ...]:
    """With line and column; only files that have problems are read again."""
    problems = tuple(problems)
    vague = {p.path for p in problems if not p.line and p.path in snapshot.entries}
    contents = {path: content for path, content in snapshot.read(sorted(vague)) if isinstance(content, bytes)}
    return tuple(sorted(place(p, contents.get(p.path, b"")) if not p.line else p for p in problems))


def moved(fleet: Fleet, placed: Placed) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for host in fleet.hosts.values() if placed else ():
        for jail in host.jails:
            home = placed.get(jail.id, host.name)
            if home != host.name and home in fleet.hosts:
                path = f"customers/{jail.customer}/jails/{jail.name}.yaml"
                hint = f"put {home} back; to start afresh, remove the jail in one commit and add it in the next"
                message = f"{jail.name} has its data on host {home} and does not move by editing this"
                found.setdefault(jail.customer, []).append(problem(path, ("spec", "host"), message, hint))
    return found


# ── which revision is in force ───────────────────────────────────────────────────────────────────────────────


def settle(repository: History, head: str, compiler: Compiler, placed: Placed | None = None) -> Settled:
    """The newest mixture of commits without a Problem."""
    newest = compiler.compile(repository.tree(head), placed=placed)
    if not newest.problems:
        return Settled(head, Revision({"": head}), newest.fleet)
    base = head if "" not in newest.problems else last_good_base(repository, head, compiler)
    if base is None:
        return Settled(head, Revision({"": None}), None, newest.all_problems)
    mixture = Mixture(repository, compiler, base, placed)
    return replace(mixture.settled(), head=head, problems=newest.all_problems)


def last_good_base(repository: History, head: str, compiler: Compiler) -> str | None:
    """The newest commit before this one whose staff's documents have no Problem."""
    for commit in repository.history(head, limit=HISTORY)[1:]:
        if "" not in compiler.compile(repository.tree(commit)).problems:
            return commit
    return None


@dataclass
class Mixture:
    """A base commit in which the folders of some customers come from older commits, or from none."""

    repository: History
    compiler: Compiler
    base: str
    placed: Placed | None

    def settled(self) -> Settled:
        """Each customer with Problems goes back to where it has none; one that still has some is left as it is."""
        mounts: dict[str, str | None] = {}
        for _ in range(3):
            compiled = self.compiled(mounts)
            if not compiled.problems:
                break
            blamed = sorted(compiled.problems)
            again = {c: None if c in mounts else self.last_good(c, blamed) for c in blamed if c}
            mounts |= again
        compiled = self.compiled(mounts)
        revision = Revision({"": self.base, **{f"customers/{c}": commit for c, commit in mounts.items()}})
        return Settled(self.base, revision, None if compiled.problems else compiled.fleet)

    def last_good(self, customer: str, blamed: Iterable[str]) -> str | None:
        """The newest commit in which this folder has no Problem, with all others that have any left out: two customers
        who want the same thing are both blamed, and each has to be judged alone."""
        others: dict[str, str | None] = {c: None for c in blamed if c and c != customer}
        for commit in self.repository.history(self.base, f"customers/{customer}", HISTORY)[1:]:
            entries = self.repository.tree(commit, f"customers/{customer}").entries
            if entries and customer not in self.compiled({**others, customer: commit}).problems:
                return commit
        return None

    def compiled(self, mounts: Mapping[str, str | None]) -> Compiled:
        tree = self.repository.tree(self.base)
        entries = {p: e for p, e in tree.entries.items() if customer_of(p) not in mounts}
        for customer, commit in mounts.items():
            if commit:
                entries |= self.repository.tree(commit, f"customers/{customer}").entries
        frozen = frozenset(c for c, commit in mounts.items() if commit is None)
        return self.compiler.compile(replace(tree, entries=entries), frozen, self.placed)


def jails_of(fleet: Fleet) -> Iterator[tuple[str, str]]:
    """(jail's id, host) of every jail."""
    return ((jail.id, host.name) for host in fleet.hosts.values() for jail in host.jails)
