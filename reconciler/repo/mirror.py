"""Our own copy of the platform's repository: fetches the watched branch, publishes the status branch.

In: a URL, two branch names, status files. Out: the watched commit; the commit that landed. The copy is a bare cache
that may be deleted at any time and is made anew when it is damaged. A rewritten branch is followed: what it says now
is wanted, whatever it said before. Commits that a remote did not take wait in the spool, two refs: `refs/spool/tip`, on
top of `refs/spool/base`, the remote's tip at that time (no base: it had none). When the remote has moved on, they are
written again on its new tip. Must not know: what a status file says.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from reconciler.repo.command import Done, GitFailure, cache, complaint, lay_out, network, plain, pushed, trust
from reconciler.repo.repository import Repository, Tree
from reconciler.repo.snapshot import FILE, Entry

PROTOCOLS = ("file", "https", "ssh", "git")

_TRIES = 10
_BASE, _TIP, _NEW = "refs/spool/base", "refs/spool/tip", "refs/spool/new"
_BRANCH = re.compile(r"[^-/\s~^:?*\[\\\x00-\x1f][^\s~^:?*\[\\\x00-\x1f]*")

_NO_PATH = re.compile(r"\0|(^|/)(\.|\.\.|\.git)?(/|$)", re.IGNORECASE)
"""Empty components and those that git refuses in a tree."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A status commit apart from where it stands: path → blob, None removes. `author` holds the time as well."""

    author: bytes
    message: bytes
    changes: Mapping[str, str | None]


class Mirror(Repository):
    def __init__(
        self,
        url: str,
        folder: Path,
        branch: str,
        status: str,
        author: str = "reconciler <reconciler@localhost>",
        ssh_command: str | None = None,
        seconds: float = 120,
    ) -> None:
        """`seconds` bounds one fetch or push. Below `folder`, a cache is named by its URL: several may share one."""
        for name in (branch, status):
            if not _BRANCH.fullmatch(name):
                raise GitFailure(f"{name!r} is not a branch name")
        self._url, self._author, self._seconds = url, author, seconds
        self._watched, self._status = f"refs/heads/{branch}", f"refs/heads/{status}"
        self._folder = folder.absolute() / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.git"
        self._trust = self._folder / "trust"
        self._broken = False
        self._tree: Tree | None = None
        environment = network(PROTOCOLS, ssh_command) | {"GIT_CONFIG_GLOBAL": str(self._trust)}
        settings = [("remote.origin.fetch", spec) for spec in (_exactly(self._watched), _maybe(self._status))]
        super().__init__(cache(self._folder, url, settings, environment), plain(url))
        self._outside = cache(self._folder / "none", url, (), environment)
        with self._alone():
            self._ensure()

    # ── in ───────────────────────────────────────────────────────────────────────────────────────────────────

    def fetch(self) -> str:
        """The commit of the watched branch, after fetching it and the status branch."""
        with self._alone():
            self._ensure()
            before = self._refs().get(self._watched)
            self._fetch(_exactly(self._watched), _maybe(self._status))
            # Its tree is named as well: damage shows here, or when the tree is read.
            commit, _ = self._ask("rev-parse", self._watched, self._watched + "^{tree}").split()
            if commit != before:
                self._tidy()
            return commit

    def status_files(self) -> dict[str, bytes]:
        """The status branch as we know it, with what still waits to be pushed."""
        with self._alone():
            self._ensure()
            tip, _ = self._stand()
        if not tip:
            return {}
        tree = self.tree(tip)
        return {path: content for path, content in tree.read(tree.entries) if isinstance(content, bytes)}

    def _fetch(self, *refspecs: str) -> None:
        done = self._fetch_once(refspecs)
        if done.status:
            self._blame_remote()
            with self._anew():  # the remote answers, so it is our copy that is damaged
                done = self._fetch_once(refspecs)
        if done.status:
            raise GitFailure(f"cannot fetch {plain(self._url)}: {complaint(done, self._url)}")

    @contextlib.contextmanager
    def _anew(self) -> Iterator[None]:
        """A new copy. When the watched branch does not come into that one either, the remote itself is damaged, and we
        keep the old one: it has what still waits to be pushed."""
        old = self._folder.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._folder.rename(old)
        self._create()
        try:
            yield
        finally:
            if old.exists() and self._watched not in self._refs():
                shutil.rmtree(self._folder, ignore_errors=True)
                old.rename(self._folder)
            shutil.rmtree(old, ignore_errors=True)

    def _fetch_once(self, refspecs: Iterable[str]) -> Done:
        quietly = ("--quiet", "--prune", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        return self._git.run("fetch", *quietly, "--no-auto-maintenance", "origin", *refspecs, seconds=self._seconds)

    def _blame_remote(self) -> None:
        """GitFailure when a fetch failed because the remote is away or lacks the watched branch."""
        asked = self._outside.run("ls-remote", "origin", self._watched, seconds=self._seconds)
        address, name = plain(self._url), self._watched.removeprefix("refs/heads/")
        if asked.status:
            advice = "Check the address, the network, and the key or password it wants"
            raise GitFailure(f"cannot reach {address}: {complaint(asked, self._url)}. {advice}")
        if not asked.out:
            raise GitFailure(f"{address} has no branch {name!r}: push it, or watch another one")

    # ── out ──────────────────────────────────────────────────────────────────────────────────────────────────

    def publish(self, files: Mapping[str, bytes | None], message: str) -> str | None:
        """The commit that landed, None when the branch says all this already; None as content removes a file.

        After a GitFailure the commit waits in the spool, and goes out before the next one; until the first contact
        with the remote there is nothing to stand on, so nothing is spooled.
        """
        for path in files:
            if _NO_PATH.search(path):
                raise GitFailure(f"{path!r} cannot be the path of a status file")
        named = {path: (data, _sha(data)) for path, data in files.items() if data is not None}
        changes = {path: named[path][1] if path in named else None for path in files}
        blobs = {sha: data for data, sha in named.values()}
        author = f"{self._author} {int(time.time())} +0000".encode()
        edit = Edit(author, message.strip().encode() + b"\n", changes)
        with self._alone():
            self._ensure()
            if not self._refs():
                self._fetch_status()
            tip, remote = self._stand()
            commit = self._write([edit], tip, blobs)
            if commit and commit != tip:
                self._spool(remote, commit)
            return self._deliver()

    def _deliver(self) -> str | None:
        """Pushes the spool, rewriting it on the remote's tip each time somebody else was faster."""
        refused_on: list[str | None] = []
        for turn in range(_TRIES):
            tip, remote = self._stand()
            if not tip or tip == remote:
                return None
            verdict, words = self._push(tip)
            if verdict == "landed":
                self._clear_spool()
                self._tidy()
                return tip
            if verdict == "away" or refused_on[-2:] == [remote, remote]:  # nobody was faster: it will not have it
                raise GitFailure(f"cannot push to {plain(self._url)}: {words}. The status is kept and pushed later")
            refused_on.append(remote)
            time.sleep(random.uniform(0, 0.05 * 2 ** min(turn, 5)))
            self._fetch_status()
        raise GitFailure(f"{plain(self._url)} changed {_TRIES} times while pushing: who else writes {self._status}?")

    def _push(self, tip: str) -> tuple[Literal["landed", "lost", "away"], str]:
        done = self._git.run("push", "--porcelain", "origin", f"{tip}:{self._status}", seconds=self._seconds)
        return pushed(done, self._url)

    def _fetch_status(self) -> None:
        done = self._fetch_once([_maybe(self._status)])
        if done.status:
            raise GitFailure(f"cannot fetch {plain(self._url)}: {complaint(done, self._url)}")

    # ── the spool ────────────────────────────────────────────────────────────────────────────────────────────

    def _stand(self) -> tuple[str | None, str | None]:
        """(our tip, standing on the remote's tip as we know it; the remote's tip)."""
        refs = self._refs()
        remote, base, tip = (refs.get(name) for name in (self._status, _BASE, _TIP))
        if not tip or base == remote:
            return tip or remote, remote
        tip = self._write(self._edits(base, tip), remote)
        if tip and tip != remote:
            self._spool(remote, tip)
        else:
            self._clear_spool()
        return tip, remote

    def _edits(self, base: str | None, tip: str) -> list[Edit]:
        """The spooled commits, oldest first."""
        unseen = [f"^{base}"] if base else []
        commits = self._ask("rev-list", "--first-parent", "--reverse", tip, *unseen).split()
        return [self._edit(commit, raw) for commit, raw in zip(commits, self.blobs(commits), strict=True)]

    def _edit(self, commit: str, raw: bytes) -> Edit:
        header, _, message = raw.partition(b"\n\n")
        author = next(line for line in header.split(b"\n") if line.startswith(b"author "))
        changes = {path: entry and entry.sha for path, entry in self.changes(commit).items()}
        return Edit(author.removeprefix(b"author "), message, changes)

    def _write(self, edits: Iterable[Edit], onto: str | None, blobs: Mapping[str, bytes] | None = None) -> str | None:
        """The tip after committing the edits on `onto`, by one fast-import; an edit that changes nothing is skipped."""
        entries = self._entries(onto)
        written: dict[str, str | None] = {}
        commands: list[bytes] = []
        for edit in edits:
            now = {path: written.get(path, _blob(entries.get(path))) for path in edit.changes}
            changes = {path: sha for path, sha in edit.changes.items() if now[path] != sha}
            if changes:
                commands += _commit(edit, changes, None if commands else onto)
            written |= changes
        if not commands:
            return onto
        wanted = set(written.values())
        new = [_data(b"blob\n", data) for sha, data in (blobs or {}).items() if sha in wanted]
        stream = b"".join([*new, *commands, b"get-mark :1\ndone\n"])
        return self._ask("fast-import", "--quiet", "--done", "--force", feed=stream)

    def _entries(self, commit: str | None) -> Mapping[str, Entry]:
        """The files of the status branch; the last tree asked for is kept, for the next one differs little."""
        if not commit:
            return {}
        self._tree = self.tree(commit, known=self._tree)
        return self._tree.entries

    def _spool(self, base: str | None, tip: str) -> None:
        below = f"update {_BASE} {base}" if base else f"delete {_BASE}"
        self._ask("update-ref", "--stdin", feed=f"{below}\nupdate {_TIP} {tip}\n".encode())

    def _clear_spool(self) -> None:
        self._ask("update-ref", "--stdin", feed=f"delete {_BASE}\ndelete {_TIP}\n".encode())

    # ── the cache ────────────────────────────────────────────────────────────────────────────────────────────

    def _refs(self) -> dict[str, str]:
        lines = self._ask("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", _BASE, _TIP).splitlines()
        return {name: sha for name, _, sha in (line.rpartition(" ") for line in lines)}

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer a cache, be it a thread or a process; beside the cache, so that it survives its making anew."""
        self._folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _ensure(self) -> None:
        """A cache that answers. Nobody else writes here now, so a lock file is what a killed git left."""
        for lock in (*self._folder.glob("*.lock"), *self._folder.glob("refs/**/*.lock")):
            lock.unlink(missing_ok=True)
        if self._broken or not self._trust.exists() or self._git.run("for-each-ref", "--count=1").status:
            self._create()

    def _create(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            lay_out(self._folder)
        except OSError as failure:
            raise GitFailure(f"cannot make a cache: {failure}. Check space and permissions") from None
        trust(self._trust)
        self._broken = False

    def _damaged(self, words: str) -> NoReturn:
        self._broken = True
        raise GitFailure(f"our copy of {self._place} is damaged ({words}): it is made anew at the next fetch")

    def _tidy(self) -> None:
        """Repacks once 6,700 objects are loose; unpacked, 1,000 commits take 94 MB instead of 4. May fail: no harm."""
        with contextlib.suppress(GitFailure):
            self._git.run("gc", "--auto", "--quiet")


def _exactly(ref: str) -> str:
    return f"+{ref}:{ref}"


def _maybe(ref: str) -> str:
    """A pattern, since git fails on an exact ref that is not there; it may bring branches whose names begin alike."""
    return f"+{ref}*:{ref}*"


def _blob(entry: Entry | None) -> str | None:
    """Its sha; "" for what is no plain file, so that it never equals what we write."""
    return entry and (entry.sha if entry.mode == FILE else "")


def _sha(data: bytes) -> str:
    """The name git gives a blob (gitformat: "blob", its length, a zero byte, itself)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _commit(edit: Edit, changes: Mapping[str, str | None], onto: str | None) -> list[bytes]:
    """git-fast-import(1). Removals come first: a removed file may make room for a directory of the same name."""
    head = b"commit %s\nmark :1\nauthor %s\ncommitter %s\n" % (_NEW.encode(), edit.author, edit.author)
    start = [_data(head, edit.message), f"from {onto}\n".encode() if onto else b""]
    removed = [b"D %s\n" % _quoted(path) for path, sha in changes.items() if not sha]
    written = [b"M 100644 %s %s\n" % (sha.encode(), _quoted(path)) for path, sha in changes.items() if sha]
    return [*start, *removed, *written]


def _data(command: bytes, data: bytes) -> bytes:
    return b"%sdata %d\n%s\n" % (command, len(data), data)


def _quoted(path: str) -> bytes:
    escaped = os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    return b'"%s"' % escaped
