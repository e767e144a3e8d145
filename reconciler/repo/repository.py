"""Reads any git repository: trees, blobs, history.

In: revisions as people and programs write them. Out: `Tree` snapshots, commits, or GitFailure naming what is wrong.
One `ls-tree` a tree and one `cat-file` a read: ten times faster than objects one by one. Must not know: remotes, the
status branch, YAML.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from reconciler.repo.command import Done, Git, GitFailure, complaint, surrounding
from reconciler.repo.snapshot import LIMIT, UNREADABLE, Content, Entry, too_large

_BATCH = 64 << 20
"""Bytes of blobs in memory at once while reading."""


class Repository:
    def __init__(self, git: Git, place: str) -> None:
        self._git = git
        self._place = place

    @classmethod
    def open(cls, path: Path) -> Repository:
        """The repository that `path` is in, bare or not; GitFailure when there is none or git refuses it."""
        git, top = surrounding(path)
        asked = git.run("rev-parse", "--git-dir")
        if asked.status:
            raise GitFailure(_refusal(top, asked))
        return cls(git, str(top))

    def resolve(self, revision: str) -> str:
        """The commit that a name, tag or abbreviation means."""
        asked = self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", revision + "^{commit}")
        if asked.status:
            raise GitFailure(f"{self._place} has no commit {revision!r}")
        return asked.text

    def tree(self, commit: str, under: str = "", known: Tree | None = None) -> Tree:
        """All files of a commit, or those below the folder `under`, whose paths still start at the root.

        From the tree of another commit that is `known`, only the difference is asked for: 10,000 files in 5 ms, not 25.
        """
        commit = commit if _SHA.fullmatch(commit) else self.resolve(commit)
        return (known and self._later(known, commit, under)) or self._whole(commit, under)

    def _whole(self, commit: str, under: str) -> Tree:
        listed = self._git.run("ls-tree", "-r", "-z", "--full-tree", commit, *_below(under))
        if listed.status:
            self.resolve(commit)
            self._damaged(complaint(listed))
        return Tree(self, dict(sorted(_entries(listed.out))), commit, under)

    def _later(self, known: Tree, commit: str, under: str) -> Tree | None:
        if known.under != under or not known.commit:
            return None
        listed = self._git.run("diff-tree", *_RAW, known.commit, commit, *_below(under))
        if listed.status:  # the known commit is gone, after a forced push perhaps
            return None
        changed = dict(_differences(listed.out))
        if not changed:
            return Tree(self, known.entries, commit, under)
        both = {**known.entries, **changed}
        return Tree(self, {path: entry for path, entry in sorted(both.items()) if entry}, commit, under)

    def changes(self, commit: str) -> dict[str, Entry | None]:
        """What a commit changed against its first parent, or brought in as the first one; None is a removed file."""
        listed = self._git.run("diff-tree", *_RAW, "--root", "--no-commit-id", commit)
        if listed.status:
            self._damaged(complaint(listed))
        return dict(_differences(listed.out))

    def sizes(self, shas: list[str]) -> list[int]:
        lines = self._ask("cat-file", "--batch-check=%(objectsize)", "--buffer", feed=_lines(shas)).split("\n")
        if not all(map(str.isdigit, lines)):
            self._damaged("objects are missing")
        return list(map(int, lines))

    def blobs(self, shas: list[str]) -> Iterator[bytes]:
        """Their contents, while git reads on."""
        count = 0
        for content in _contents(self._git.stream("cat-file", "--batch", "--buffer", feed=_lines(shas))):
            count += 1
            yield content
        if count != len(shas):
            self._damaged("objects are missing")

    def history(self, commit: str, path: str = "", limit: int = 100) -> list[str]:
        """First-parent commits that touched `path`, newest first."""
        below = ["--", path] if path else []
        return self._ask("rev-list", "--first-parent", f"--max-count={limit}", self.resolve(commit), *below).split()

    def history_beside(self, commit: str, folder: str, limit: int = 100) -> list[str]:
        """First-parent commits that touched something else than `folder`, newest first."""
        beside = f":(exclude){folder}"
        asked = ("--no-literal-pathspecs", "rev-list", "--first-parent", f"--max-count={limit}", self.resolve(commit))
        return self._ask(*asked, "--", beside).split()

    def parent(self, commit: str) -> str | None:
        """The commit before, on the first-parent line; None before the first."""
        asked = self._git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^")
        return asked.text if asked.status == 0 else None

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether `old` is `new` or came before it; a commit that is not here did not."""
        new = self.resolve(new)
        return self._git.run("merge-base", "--is-ancestor", old, new).status == 0

    def subject(self, commit: str) -> str:
        """The first line of its message."""
        found = self.resolve(commit)
        return self._ask("rev-list", "--max-count=1", "--no-commit-header", "--format=%s", found)

    def _ask(self, *arguments: str, feed: bytes = b"") -> str:
        """The answer of a command that can only fail in a damaged repository."""
        asked = self._git.run(*arguments, feed=feed)
        if asked.status:
            self._damaged(complaint(asked))
        return asked.text

    def _damaged(self, words: str) -> NoReturn:
        raise GitFailure(f"{self._place} is damaged ({words}): `git fsck` there tells more")


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of a commit. Entries may be merged from several commits (no `commit` then): blobs are what is read."""

    repository: Repository
    entries: Mapping[str, Entry]
    commit: str = ""
    under: str = ""

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Content]]:
        asked = [(path, self.entries[path]) for path in paths]
        shas = [entry.sha for _, entry in asked if entry.mode not in UNREADABLE]
        blobs = self._blobs(shas)
        for path, entry in asked:
            yield path, UNREADABLE.get(entry.mode) or next(blobs)

    def _blobs(self, shas: list[str]) -> Iterator[Content]:
        sizes = self.repository.sizes(shas) if shas else []
        for batch in _batches(list(zip(shas, sizes, strict=True))):
            small = [sha for sha, size in batch if size <= LIMIT]
            blobs = self.repository.blobs(small) if small else iter(())
            for _, size in batch:
                yield next(blobs) if size <= LIMIT else too_large(size)


def _batches(sized: list[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Cut where the sizes, each at most LIMIT, add up to _BATCH."""
    start = total = 0
    for end, (_, size) in enumerate(sized):
        total += min(size, LIMIT)
        if total >= _BATCH:
            yield sized[start : end + 1]
            start, total = end + 1, 0
    yield sized[start:]


_SHA = re.compile(r"[0-9a-f]{40}")
_RAW = ("-r", "-z", "--raw", "--no-abbrev", "--no-renames")


def _below(folder: str) -> list[str]:
    return ["--", folder.rstrip("/") + "/"] if folder else []


def _lines(shas: Iterable[str]) -> bytes:
    return "".join(f"{sha}\n" for sha in shas).encode()


def _entries(listing: bytes) -> Iterator[tuple[str, Entry]]:
    """`ls-tree -z`: mode, type and sha, a tab, the path."""
    for line in os.fsdecode(listing).split("\0")[:-1]:
        about, _, path = line.partition("\t")
        yield path, Entry(about[:6], about[-40:])


def _differences(listing: bytes) -> Iterator[tuple[str, Entry | None]]:
    """`diff-tree -z --raw`: ":mode mode sha sha status" of old and new, then the path, which nothing separates."""
    fields = iter(os.fsdecode(listing).split("\0")[:-1])
    for about, path in zip(fields, fields, strict=True):
        _, mode, _, sha, status = about.split()
        yield path, None if status == "D" else Entry(mode, sha)


def _contents(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`cat-file --batch`: "sha type size", the bytes, a line feed; a missing object has no size, and ends it."""
    data = b""
    for piece in pieces:
        data += piece
        at = 0
        while (end := data.find(b"\n", at)) >= 0:
            about = data[at:end].split()
            if len(about) != 3:
                return
            after = end + 1 + int(about[2]) + 1
            if after > len(data):
                break
            yield data[end + 1 : after - 1]
            at = after
        data = data[at:]


def _refusal(top: Path, asked: Done) -> str:
    """Why git does not open a repository: most often it belongs to somebody else, and root is careful."""
    if top.stat().st_uid != os.geteuid():
        return f"{top} belongs to another user: trust it with `git config --global --add safe.directory {top}`"
    return f"git cannot open {top}: {complaint(asked)}"
