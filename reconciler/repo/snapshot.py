"""Files at one moment, by path: what a commit and a directory on disk look like to whoever compiles them.

In: a directory (a commit's tree is `repository.Tree`). Out: entries, and the bytes of those that are asked for; what
cannot be had as bytes is `Unread`, with the reason, so that it becomes a Problem and not an exception. Paths that are
no UTF-8 carry surrogate escapes. Must not know: git, YAML, and which files matter.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

LIMIT = 4 << 20
"""Bytes of one file; a larger one is not read. The largest document is a few KB."""

FILE, EXECUTABLE, SYMLINK, SUBMODULE = "100644", "100755", "120000", "160000"
DIRECTORY, SPECIAL = "040000", "000000"


class Entry(NamedTuple):
    """A file of a snapshot. A tuple: 10,000 dataclasses take 5 ms longer.

    `mode` is git's; a work tree adds DIRECTORY (one that could not be listed) and SPECIAL (a socket, a device).
    `sha` is the blob's, and "" in a work tree: nothing to key a cache with.
    """

    mode: str
    sha: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands where the bytes of a file would be."""

    reason: str


Content = bytes | Unread


class Snapshot(Protocol):
    """Either a `Tree` or a `WorkTree`."""

    @property
    def entries(self) -> Mapping[str, Entry]:
        """By path, in the order of paths."""
        ...

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Content]]:
        """Path and content of each path, in the order asked for."""
        ...


def too_large(size: int) -> Unread:
    return Unread(f"larger than {LIMIT >> 20} MiB ({size} bytes)")


UNREADABLE = {
    SYMLINK: Unread("a symbolic link: write the file itself"),
    SUBMODULE: Unread("a submodule: copy its files"),
    DIRECTORY: Unread("a directory that cannot be listed: check its permissions"),
    SPECIAL: Unread("not a regular file"),
}
"""Why an entry of this mode is not even tried."""


class WorkTree:
    """A directory as it is on disk, uncommitted changes included. Dot directories are left out, links not followed."""

    def __init__(self, path: Path) -> None:
        self._path = os.fspath(path)
        self.entries: Mapping[str, Entry] = dict(sorted(_walk(self._path, "")))

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, Content]]:
        for path in paths:
            yield path, UNREADABLE.get(self.entries[path].mode) or _content(f"{self._path}/{path}")


def _walk(folder: str, prefix: str) -> Iterator[tuple[str, Entry]]:
    try:
        with os.scandir(folder) as found:
            children = list(found)
    except OSError:
        yield prefix.rstrip("/") or ".", Entry(DIRECTORY, "")
        return
    for child in children:
        if not child.is_dir(follow_symlinks=False):
            yield prefix + child.name, _entry(child)
        elif not child.name.startswith("."):
            yield from _walk(child.path, f"{prefix}{child.name}/")


def _entry(child: os.DirEntry[str]) -> Entry:
    try:
        status = child.stat(follow_symlinks=False)
    except OSError:  # gone since it was listed
        return Entry(SPECIAL, "")
    if stat.S_ISLNK(status.st_mode):
        return Entry(SYMLINK, "")
    if not stat.S_ISREG(status.st_mode):
        return Entry(SPECIAL, "")
    return Entry(EXECUTABLE if status.st_mode & stat.S_IXUSR else FILE, "")


def _content(path: str) -> Content:
    """Checked again on the open file, which may have changed since it was listed; a FIFO must not block us."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as failure:
        return Unread(f"unreadable: {failure.strerror}")
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return UNREADABLE[SPECIAL]
        return os.read(file, status.st_size) if status.st_size <= LIMIT else too_large(status.st_size)
    except OSError as failure:
        return Unread(f"unreadable: {failure.strerror}")
    finally:
        os.close(file)
