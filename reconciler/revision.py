"""From a commit to a Fleet: what the documents say, and which revision of them is in force.

In: snapshots (a commit's tree, a directory). Out: a Compiled (fleet and problems, located), or a Settled: the newest
mixture of commits that has no Problem in it. A Problem in a customer's folder holds that customer at its last good
commit; one in staff's documents holds everything. Only git is asked, so forgetting everything changes nothing. What
was loaded is kept by blob, what was resolved by folder: a commit that touches one file loads one file.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from reconciler.guards import trips
from reconciler.load import ignored, load, place, unreadable
from reconciler.model import Document, Fleet, ListFile, Lost, Problem, Revision, Rollout, SecretFile, problem, whose
from reconciler.repo import Entry, GitFailure, Snapshot, Tree, Unread
from reconciler.resolve import Folder, Resolved, resolve
from reconciler.schemas import customer_of

HISTORY = 100
"""How many commits back a good one is looked for; who makes as many bad ones goes back to what was applied last."""
FAR = 100_000
"""How many commits of any customers are put in order, to tell who wanted something first."""
BULK = 1_000
"""Files that are many at once."""
REVIEW = 4
"""After so many changes of many files, or of staff's, the garbage collector looks at everything once more."""

Loaded = Document | SecretFile | ListFile | tuple[Problem, ...]
Files = dict[str, Loaded]
"""By path, in the order of paths."""
Placed = Mapping[str, str]
"""Jail's id → the host it was last seen on: a jail with data does not move by editing a field."""
Applied = Callable[[str], Iterable[str]]
"""Customer → the commits that their jails are made from, as far as the status knows."""


def unknown(customer: str) -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class Told:
    """What the status branch says of the hosts."""

    placed: Placed = field(default_factory=dict)
    applied: Applied = unknown
    lost: Lost | None = None
    made: Mapping[str, str] = field(default_factory=dict)
    """Jail's id → the commit that it is made from."""


NOTHING = Told()


class History(Protocol):
    """What settling asks of a repository."""

    def tree(self, commit: str, under: str = "", known: Tree | None = None) -> Tree: ...

    def history(self, commit: str, path: str = "", limit: int = 100) -> list[str]: ...

    def history_beside(self, commit: str, folder: str, limit: int = 100) -> list[str]: ...

    def parent(self, commit: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Compiled:
    """`problems` by customer; "" is staff's. `disputed`: who has none but that somebody else wants the same."""

    fleet: Fleet
    problems: Mapping[str, tuple[Problem, ...]]
    disputed: frozenset[str] = frozenset()

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
    rollout: Rollout | None = None
    """How far staff's documents have come, and the fleet is as that says; None when nobody has asked yet."""


@dataclass
class Compiler:
    """Compiles snapshots, and remembers of the last one what it can use again for the next."""

    newest: Tree | None = None
    """The last one that was settled: git is asked for what differs from it."""
    _entries: Mapping[str, Entry] = field(default_factory=dict)
    _files: dict[str, Files] = field(default_factory=lambda: {"": {}})
    _folders: dict[str, Folder] = field(default_factory=lambda: {"": Folder("")})
    _resolved: Resolved | None = None
    _bulks: int = 0
    """How often it was much."""

    def compile(self, snapshot: Snapshot, frozen: frozenset[str] = frozenset(), told: Told = NOTHING) -> Compiled:
        gone, fresh = differences(self._entries, snapshot.entries)
        much = len(fresh) >= BULK or not all(map(customer_of, (*gone, *fresh)))
        self._bulks += much
        with uncollected(much, anew=much and self._bulks % REVIEW == 0):
            self._load(snapshot, gone, fresh)
            self._resolved = resolve(self._folders.values(), self._resolved, frozen)
        found, households = dict(self._resolved.problems), self._resolved.households
        disputed = frozenset(c for c in found if c and not households[c].problems)
        for customer, moves in moved(self._resolved, told.placed).items():
            found[customer] = (*found.get(customer, ()), *moves)
            disputed -= {customer}
        going, lost = vanishing(self._resolved, told)
        fleet = replace(self._resolved.fleet, vanishing=going, lost=lost)
        return Compiled(fleet, {c: located(p, snapshot) for c, p in found.items()}, disputed)

    def fork(self) -> Compiler:
        """Another one that remembers the same, and goes its own way from here."""
        return replace(self, _files=dict(self._files), _folders=dict(self._folders))

    def _load(self, snapshot: Snapshot, gone: list[str], fresh: list[str]) -> None:
        """Reads the files that differ, all at once, and makes new Folders of those they lie in."""
        touched = {c: dict(self._files.get(c, {})) for c in {customer_of(path) for path in (*gone, *fresh)}}
        for path in gone:
            del touched[customer_of(path)][path]
        for path, content in snapshot.read(fresh):
            touched[customer_of(path)][path] = loaded(path, content)
        for customer, files in touched.items():
            self._files[customer] = dict(sorted(files.items()))
            self._folders[customer] = folder(customer, self._files[customer].values())
            if customer and not files:
                del self._files[customer], self._folders[customer]
        self._entries = snapshot.entries


@contextmanager
def uncollected(much: bool, anew: bool) -> Iterator[None]:
    """Keeps the garbage collector away from what is made here and stays: it finds nothing, in a quarter of the time.

    `much` is out of its sight afterwards as well: else each look at 100,000 jails takes it two seconds. So is all else
    that is there by then, connections to hosts as well, and when they are let go only a look `anew` finds them.
    """
    if anew:
        gc.unfreeze()
        gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
        if much:
            gc.freeze()


def differences(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> tuple[list[str], list[str]]:
    """Paths that are gone, and that are new or others now; those that are nobody's documents are left out."""
    gone = [path for path in old if path not in new]
    fresh = [path for path, entry in new.items() if not entry.sha or old.get(path) != entry]
    return [path for path in gone if not ignored(path)], [path for path in fresh if not ignored(path)]


def folder(customer: str, files: Iterable[Loaded]) -> Folder:
    documents = tuple(file for file in files if isinstance(file, Document | SecretFile | ListFile))
    return Folder(customer, documents, tuple(p for file in files if isinstance(file, tuple) for p in file))


def loaded(path: str, content: bytes | Unread) -> Loaded:
    return (unreadable(path, content.reason),) if isinstance(content, Unread) else load(path, content)


def located(problems: Iterable[Problem], snapshot: Snapshot) -> tuple[Problem, ...]:
    """With line and column; only files that have problems are read again."""
    problems = tuple(problems)
    vague = {p.path for p in problems if not p.line and p.path in snapshot.entries}
    contents = {path: content for path, content in snapshot.read(sorted(vague)) if isinstance(content, bytes)}
    return tuple(sorted(place(p, contents.get(p.path, b"")) if not p.line else p for p in problems))


def moved(resolved: Resolved, placed: Placed) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for customer, household in resolved.households.items() if placed else ():
        for now in household.places:
            home = placed.get(now.id, now.host)
            if home != now.host and home in resolved.fleet.hosts:
                found.setdefault(customer, []).append(has_moved(customer, now.id, home))
    return found


def vanishing(resolved: Resolved, told: Told) -> tuple[frozenset[str], Lost | None]:
    """Of the jails that stand on hosts of the fleet, those without a document, when they are too many at once. Those
    that were counted with them count as long as they have no document either, or the last would go as few."""
    fleet, placed = resolved.fleet, told.placed
    wanted = {now.id for household in resolved.households.values() for now in household.places}
    lost = placed.keys() - wanted
    if not lost:
        return frozenset(), None
    standing = {jail for jail, home in placed.items() if home in fleet.hosts and whose(jail) not in fleet.frozen}
    before = told.lost or Lost(frozenset(), 0)
    gone, left = frozenset(standing & lost), before.jails - wanted
    found = Lost(gone | left, max(len(standing), before.of if left else 0))
    return (gone, found) if gone and trips(fleet.guard, len(found.jails), found.of) else (frozenset(), None)


def has_moved(customer: str, jail: str, home: str) -> Problem:
    name = jail.removeprefix(f"{customer}--")
    hint = f"put {home} back; to start afresh, remove the jail in one commit and add it in the next"
    message = f"{name} has its data on host {home} and does not move by editing this"
    return problem(f"customers/{customer}/jails/{name}.yaml", ("spec", "host"), message, hint)


# ── which revision is in force ───────────────────────────────────────────────────────────────────────────────


def settle(repository: History, head: str, compiler: Compiler, told: Told = NOTHING) -> Settled:
    """The newest mixture of commits without a Problem, in which jails that are suspended are as they were made."""
    settled = mixed(repository, head, compiler, told)
    fleet = settled.fleet
    if fleet is None or not fleet.suspended or compiler.newest is None:
        return settled
    tree = repository.tree(settled.revision.commit, known=compiler.newest)
    made = dict(as_made(repository, fleet.suspended, told))
    still = Mixture(repository, compiler, replace(tree, entries={**tree.entries, **made}), told).settled()
    if still.fleet is None or still.revision.held != settled.revision.held:
        return settled  # what it was made from goes with nothing of today: at least it is not touched itself
    return replace(settled, fleet=replace(fleet, hosts=still.fleet.hosts))


def as_made(repository: History, jails: Iterable[str], told: Told) -> Iterator[tuple[str, Entry]]:
    """The documents that these jails are made from, as far as the status and git know."""
    for jail in jails:
        customer, _, name = jail.partition("--")
        path = f"customers/{customer}/jails/{name}.yaml"
        with suppress(GitFailure, KeyError):
            yield path, repository.tree(told.made[jail], f"customers/{customer}").entries[path]


def mixed(repository: History, head: str, compiler: Compiler, told: Told) -> Settled:
    compiler.newest = repository.tree(head, known=compiler.newest)
    newest = compiler.compile(compiler.newest, told=told)
    if not newest.problems:
        return Settled(head, Revision({"": head}), newest.fleet)
    base = head if "" not in newest.problems else last_good_base(repository, head, compiler)
    if base is None:
        return Settled(head, Revision({"": None}), None, newest.all_problems)
    mixture = Mixture(repository, compiler, repository.tree(base, known=compiler.newest), told)
    if base == head:
        mixture.known[()] = newest
    return replace(mixture.settled(), head=head, problems=newest.all_problems)


def settle_beside(repository: History, commit: str, staff: str, compiler: Compiler, told: Told) -> Fleet | None:
    """What this commit's customers want with staff's documents as they were in another one. Who wants something that
    those do not have is held at what they wanted before, as for any problem."""
    newest, older = repository.tree(commit, known=compiler.newest), repository.tree(staff)
    entries = {path: entry for path, entry in newest.entries.items() if customer_of(path)}
    entries |= {path: entry for path, entry in older.entries.items() if not customer_of(path)}
    compiler.newest = newest
    both = replace(newest, entries=dict(sorted(entries.items())))
    return Mixture(repository, compiler, both, told).settled().fleet


def staff_digest(entries: Mapping[str, Entry]) -> str:
    """Of all that is staff's, but for approvals: two commits with the same one want the same of every host."""
    kept = [(path, entry) for path, entry in entries.items() if is_staffs(path)]
    return hashlib.sha256(repr(kept).encode()).hexdigest()


def is_staffs(path: str) -> bool:
    return not (customer_of(path) or path.startswith("approvals/") or ignored(path))


def last_good_base(repository: History, head: str, compiler: Compiler) -> str | None:
    """The newest commit before this one whose staff's documents have no Problem: the one before a change of theirs."""
    # a hundred commits of customers must not hide the last one of staff's
    for commit in repository.history_beside(head, "customers", HISTORY):
        before = repository.parent(commit)
        if before is None or "" not in compiler.compile(repository.tree(before)).problems:
            return before
    return None


Mounts = Mapping[str, str | None]
"""Customer → the commit its folder comes from."""


@dataclass
class Mixture:
    """A base commit in which the folders of some customers come from older commits, or from none."""

    repository: History
    compiler: Compiler
    tree: Tree
    told: Told
    known: dict[tuple[tuple[str, str | None], ...], Compiled] = field(default_factory=dict)
    """By mounts: each is compiled once, which is half the time of a settling that holds one customer."""

    @property
    def base(self) -> str:
        return self.tree.commit

    def settled(self) -> Settled:
        """Each customer with Problems goes back to where it has none; one that still has some is left as it is."""
        mounts: dict[str, str | None] = {}
        while back := self.back(compiled := self.compiled(mounts), mounts):
            mounts |= back
        revision = Revision({"": self.base, **{f"customers/{c}": commit for c, commit in sorted(mounts.items())}})
        return Settled(self.base, revision, None if compiled.problems else compiled.fleet)

    def back(self, compiled: Compiled, mounts: Mounts) -> Mounts:
        """Who goes back next, and where to: those with Problems of their own first, and nobody from nowhere."""
        blamed = {c for c in compiled.problems if c and mounts.get(c, "") is not None}
        if own := sorted(blamed - compiled.disputed):
            return {c: None if c in mounts else self.last_good(c, mounts) for c in own}
        return self.before_the_dispute(sorted(blamed), mounts) if blamed else {}

    def last_good(self, customer: str, mounts: Mounts) -> str | None:
        """The newest commit in which this folder has no Problem, beside the others as they are."""
        for commit in (*self.commits(customer)[1:], *self.remembered(customer)):
            if self.folder(customer, commit) and not self.blamed([customer], {**mounts, customer: commit}):
                return commit
        return None

    def remembered(self, customer: str) -> Iterator[str]:
        """What was applied, but for commits that are gone: a history may have been written anew."""
        for commit in self.told.applied(customer):
            try:
                self.folder(customer, commit)
            except GitFailure:
                continue
            yield commit

    def before_the_dispute(self, disputed: list[str], mounts: Mounts) -> Mounts:
        """Who had it first keeps it: goes back until nobody wanted the same; whoever changed then stays there."""
        ahead = {c: self.commits(c, mounts.get(c)) for c in disputed}
        for commit in self.repository.history(self.base, "customers", FAR):
            late = [c for c in disputed if ahead[c][:1] == [commit]]
            ahead |= {c: ahead[c][1:] for c in late}
            then = {c: ahead[c][0] if ahead[c] and self.folder(c, ahead[c][0]) else None for c in disputed}
            if late and not self.blamed(disputed, {**mounts, **then}):
                return {c: then[c] for c in late}
        return dict.fromkeys(disputed)

    def commits(self, customer: str, since: str | None = None) -> list[str]:
        """Those that changed this folder, newest first, from the one it is held at."""
        return self.repository.history(since or self.base, f"customers/{customer}", HISTORY)

    def folder(self, customer: str, commit: str) -> Mapping[str, Entry]:
        return self.repository.tree(commit, f"customers/{customer}").entries

    def blamed(self, customers: Iterable[str], mounts: Mounts) -> bool:
        return not self.compiled(mounts).problems.keys().isdisjoint(customers)

    def compiled(self, mounts: Mounts) -> Compiled:
        key = tuple(sorted(mounts.items()))
        if key not in self.known:
            entries = {p: e for p, e in self.tree.entries.items() if customer_of(p) not in mounts}
            for customer, commit in mounts.items():
                if commit:
                    entries |= self.folder(customer, commit)
            frozen = frozenset(c for c, commit in mounts.items() if commit is None)
            self.known[key] = self.compiler.compile(replace(self.tree, entries=entries), frozen, self.told)
        return self.known[key]
