"""Plain tars: the same tree gives the same bytes on any machine.

In: a folder; or members one by one, with names and sizes that somebody hostile may have chosen. Out: a tar of files,
directories and harmless links, with nobody's name and no time in it. What may be a member is judged here for every tar
that we write, and sizes and counts have bounds. Must not know: where members come from, and what the tars are for.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Never

from reconciler.archives import FetchFailure, replacing, sha256


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be in a tar, in bytes, and what reading it may take."""

    unpacked: int = 4 << 30
    members: int = 200_000
    name: int = 1024
    component: int = 255
    header: int = 1 << 20
    """What the headers of one member may take, extended ones included."""
    memory: int = 256 << 20
    """What unpacking xz may take; `xz -9` needs 65 MiB."""


BOUNDS = Bounds()


def pack(folder: Path, target: Path) -> str:
    """Writes the uncompressed tar of a folder; returns its digest, `sha256:…`, as it stands in YAML."""
    with replacing(target, 0o644) as file:
        _write_tree(folder, file)
    return "sha256:" + sha256(target)


def packed(folder: Path) -> bytes:
    """The bytes that `pack` writes."""
    buffer = io.BytesIO()
    _write_tree(folder, buffer)
    return buffer.getvalue()


def _write_tree(folder: Path, file: BinaryIO) -> None:
    if not folder.is_dir():
        raise FetchFailure(f"{folder} is not a directory: there is nothing to pack")
    members = Members(f"the folder {folder.name}", BOUNDS)
    try:
        with plain_tar(file) as tar:
            for path in sorted(folder.rglob("*"), key=os.fsencode):
                _write_path(tar, members, path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise FetchFailure(f"the folder {folder.name} cannot be packed: {error}") from error


def _write_path(tar: tarfile.TarFile, members: Members, path: Path, name: str) -> None:
    if path.is_symlink():
        write(tar, members.link(name, os.readlink(path)))
    elif path.is_dir():
        write(tar, members.directory(name))
    elif path.is_file():
        with path.open("rb") as content:
            status = os.fstat(content.fileno())
            write(tar, members.file(name, status.st_size, bool(status.st_mode & 0o100)), content)
    else:
        members.refuse(name, "is neither a file, a directory nor a symbolic link")


def plain_tar(file: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


def write(tar: tarfile.TarFile, members: list[tarfile.TarInfo], content: Any = None) -> None:
    """Writes a member and, before it, the directories it needs; the content is the last one's."""
    for member in members:
        tar.addfile(member, content if member.isreg() else None)


class Members:
    """What a tar holds so far, to judge what may come next. Every member of every tar we write passes through here.

    Parents are always real directories of this same tar, never links, so nothing is written through a link; and a
    link's target goes up only at its beginning, where `..` means what it says, so no chain of links leads outside.
    (tarfile.data_filter judges by the file system it would extract to; here nothing is extracted.)
    """

    def __init__(self, whole: str, bounds: Bounds) -> None:
        self._whole = whole
        self._bounds = bounds
        self._types: dict[str, bytes] = {}
        self._implied: set[str] = set()
        self._size = 0

    def directory(self, name: str) -> list[tarfile.TarInfo]:
        clean = self._clean(name)
        if not clean:
            return []  # "./", as `tar -c .` writes it
        if clean in self._implied:
            self._implied.remove(clean)
            return []
        return self._placed(clean, tarfile.DIRTYPE, 0o755)

    def file(self, name: str, size: int, executable: bool) -> list[tarfile.TarInfo]:
        self._size += size
        if size < 0 or self._size > self._bounds.unpacked:
            self.refuse(name, f"is too much: more than {self._bounds.unpacked >> 20} MiB unpacked")
        members = self._placed(self._clean(name), tarfile.REGTYPE, 0o755 if executable else 0o644)
        members[-1].size = size
        return members

    def link(self, name: str, target: str) -> list[tarfile.TarInfo]:
        clean = self._clean(name)
        words = target.split("/")
        up = next((i for i, word in enumerate(words) if word != ".."), len(words))
        if not target or target.startswith("/") or up > clean.count("/") or ".." in words[up:]:
            self.refuse(name, "links to outside of the archive; links are relative, with `..` only at the beginning")
        self._check_characters(name, target)
        members = self._placed(clean, tarfile.SYMTYPE, 0o777)
        members[-1].linkname = target
        return members

    def refuse(self, name: str, why: str) -> Never:
        raise FetchFailure(f"{self._whole}: the member {name[:200]!r} {why}")

    def _clean(self, name: str) -> str:
        self._check_characters(name, name)
        words = [word for word in name.split("/") if word not in ("", ".")]
        if name.startswith("/") or ".." in words:
            self.refuse(name, "has a name that leads outside of the archive")
        return "/".join(words)

    def _check_characters(self, name: str, text: str) -> None:
        try:
            longest = max(len(word.encode()) for word in text.split("/"))
        except UnicodeEncodeError:
            self.refuse(name, "has a name that is not UTF-8")
        if len(text.encode()) > self._bounds.name or longest > self._bounds.component:
            self.refuse(name, "has a name that is too long")
        if any(character < " " or character == "\x7f" for character in text):
            self.refuse(name, "has control characters in its name")

    def _placed(self, name: str, kind: bytes, mode: int) -> list[tarfile.TarInfo]:
        words = name.split("/")
        parents = ["/".join(words[:i]) for i in range(1, len(words))]
        missing = [parent for parent in parents if parent not in self._types]
        if any(self._types.get(parent, tarfile.DIRTYPE) != tarfile.DIRTYPE for parent in parents):
            self.refuse(name, "lies below something that is not a directory")
        if not name or name in self._types:
            self.refuse(name, "is in it twice")
        self._implied.update(missing)
        placed = [self._member(parent, tarfile.DIRTYPE, 0o755) for parent in missing]
        return [*placed, self._member(name, kind, mode)]

    def _member(self, name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        self._types[name] = kind
        if len(self._types) > self._bounds.members:
            self.refuse(name, f"is one too many: more than {self._bounds.members} members")
        member = tarfile.TarInfo(name)  # owner 0:0, no names, time 0
        member.type, member.mode = kind, mode
        return member
