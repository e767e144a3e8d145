"""One ref of a remote that several programs agree by: read, and replaced by compare-and-swap.

In: a URL, the ref's name, a line of words. Out: what the ref says, whoever said it last. Words are the subject of a
commit without parent, files and clock: the same words are the same object, however often they are said. Every exchange
has an empty repository of its own, so none can be stale or damaged, and none waits for the mirror. Must not know: what
the words mean, and time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconciler.repo.command import Done, Git, GitFailure, cache, complaint, lay_out, network, plain, pushed, trust
from reconciler.repo.mirror import PROTOCOLS

_TRIES = 2
_COMMIT = """\
tree {tree}
author reconciler <reconciler@localhost> 946684800 +0000
committer reconciler <reconciler@localhost> 946684800 +0000

{words}
"""


class Refused(GitFailure):
    """The remote answers, and does not let us write this ref."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the ref says: the object it points at, and that one's words, which anybody may have written."""

    oid: str
    words: str


class SharedRef:
    def __init__(self, url: str, ref: str, folder: Path, ssh_command: str | None = None, seconds: float = 30) -> None:
        """`seconds` bounds one question to the remote; below `folder` repositories come and go."""
        self._url, self._ref, self._folder, self._seconds = url, ref, folder, seconds
        self._surroundings = network(PROTOCOLS, ssh_command)
        self._known: Said | None = None

    def read(self) -> Said | None:
        """None when the remote has no such ref; GitFailure when it does not answer."""
        with self._repository() as git:
            return self._read(git)

    def swap(self, before: Said | None, words: str) -> Said | None:
        """Says `words`, "" for nothing, if the ref still says `before`.

        Returns what it says then: these words, or what somebody else was faster with. GitFailure when the remote does
        not answer (the words may be said or not), Refused when it takes none.
        """
        with self._repository() as git:
            after = Said(_commit(git, words), words) if words else None
            for _ in range(_TRIES):  # git refuses as well while somebody else writes, and only then the ref differs
                verdict, why = self._push(git, before, after)
                if verdict == "landed":
                    self._known = after
                    return after
                if verdict == "away":
                    raise GitFailure(f"cannot push to {plain(self._url)}: {why}")
                now = self._read(git)
                if now != before:
                    return now
        raise Refused(f"{plain(self._url)} does not let us write {self._ref}: {why}")

    def _read(self, git: Git) -> Said | None:
        listed = self._answer(git, "ls-remote", "origin", self._ref).text.splitlines()
        oid = next((line.split("\t")[0] for line in listed if line.endswith(f"\t{self._ref}")), "")
        if oid and (not self._known or self._known.oid != oid):
            self._known = self._fetched(git)
        return self._known if oid else None

    def _fetched(self, git: Git) -> Said:
        # without history, should somebody have put one there
        quietly = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--depth=1")
        self._answer(git, "fetch", *quietly, "origin", f"+{self._ref}:{self._ref}")
        oid, _, words = git.run("for-each-ref", "--format=%(objectname) %(subject)", self._ref).text.partition(" ")
        return Said(oid, words)

    def _answer(self, git: Git, *arguments: str) -> Done:
        done = git.run(*arguments, seconds=self._seconds)
        if done.status:
            advice = "Check the address, the network, and the key or password it wants"
            raise GitFailure(f"cannot reach {plain(self._url)}: {complaint(done, self._url)}. {advice}")
        return done

    def _push(self, git: Git, before: Said | None, after: Said | None) -> tuple[str, str]:
        expected = f"--force-with-lease={self._ref}:{before.oid if before else ''}"
        wanted = f"{after.oid if after else ''}:{self._ref}"
        done = git.run("push", "--porcelain", expected, "origin", wanted, seconds=self._seconds)
        return pushed(done, self._url)

    @contextmanager
    def _repository(self) -> Iterator[Git]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as scratch:
                folder, trusting = Path(scratch) / "git", Path(scratch) / "trust"
                lay_out(folder)
                trust(trusting)
                yield cache(folder, self._url, (), {**self._surroundings, "GIT_CONFIG_GLOBAL": str(trusting)})
        except OSError as failure:
            raise GitFailure(f"cannot work in {self._folder}: {failure}. Check space and permissions") from None


def _commit(git: Git, words: str) -> str:
    tree = _object(git, "tree", b"")
    return _object(git, "commit", _COMMIT.format(tree=tree, words=words).encode())


def _object(git: Git, kind: str, data: bytes) -> str:
    done = git.run("hash-object", "-t", kind, "-w", "--stdin", feed=data)
    if done.status:
        raise GitFailure(f"git cannot write: {complaint(done)}. Check space and permissions")
    return done.text
