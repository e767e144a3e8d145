"""Strangers' archives: makes them safe to unpack as root.

In: an archive that a customer may have made, as a tar of any kind. Out: a plain tar of files, directories and harmless
links, or a FetchFailure. All that comes out of an archive is hostile until it is checked here: what its headers say is
not believed, and memory has a bound. Must not know: where an archive comes from, and what it is for.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

from reconciler.archives import BLOCK, FetchFailure, replacing
from reconciler.packing import BOUNDS, Bounds, Members, plain_tar, write

BROKEN = (tarfile.TarError, OSError, EOFError, LookupError, ArithmeticError, ValueError, RecursionError)
"""What the readers of broken tars and compressed files raise, beyond errors of their own."""


def normalise(archive: Path, bounds: Bounds = BOUNDS) -> Path:
    """Rewrites any tar (plain, gzip, xz, bzip2) into a plain one that is safe to unpack as root; returns its path.

    The result lies beside the archive and is made anew each time: a cache could be damaged. The same archive gives
    the same bytes.
    """
    target = archive.with_name(archive.name + ".plain")
    whole = f"the archive {archive.name}"
    try:
        with replacing(target, 0o600) as file, archive.open("rb") as raw, plain_tar(file) as tar:
            _rewrite(_Stream(_decompressed(raw, bounds), bounds, whole), tar, Members(whole, bounds))
    except (*BROKEN, zlib.error, lzma.LZMAError) as error:
        raise FetchFailure(f"{whole} cannot be read: {error}") from error
    return target


def _rewrite(stream: _Stream, tar: tarfile.TarFile, members: Members) -> None:
    stream.allow(stream.bounds.header)
    with tarfile.open(fileobj=stream, mode="r:", errorlevel=2) as hostile:  # type: ignore[call-overload] # reads, seeks
        while (member := hostile.next()) is not None:
            stream.allow(member.size)
            _rewrite_member(member, stream, tar, members)
            hostile.members.clear()  # 200,000 of them would be remembered
            stream.allow(stream.bounds.header)
    stream.check_end()


def _rewrite_member(member: tarfile.TarInfo, stream: _Stream, tar: tarfile.TarFile, members: Members) -> None:
    if member.isdir():
        write(tar, members.directory(member.name))
    elif member.issym():
        write(tar, members.link(member.name, member.linkname))
    elif member.islnk():
        members.refuse(member.name, "is a hard link: pack with `reconciler pack`, or `tar --hard-dereference`")
    elif member.isreg() and not member.issparse():
        # after a header tarfile leaves the stream where the content begins
        write(tar, members.file(member.name, member.size, bool(member.mode & 0o100)), stream)
    else:
        members.refuse(member.name, "is neither a file, a directory nor a symbolic link")


def _decompressed(raw: BinaryIO, bounds: Bounds) -> IO[bytes]:
    magic = raw.read(6)
    raw.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"))
    if magic.startswith(b"BZh"):
        return io.BufferedReader(bz2.BZ2File(raw))
    if magic == b"\xfd7zXZ\0":
        return io.BufferedReader(_Xz(raw, bounds.memory))
    return raw


class _Xz(io.RawIOBase):
    """Like lzma.LZMAFile, which has no bound for the dictionary that the file asks for: 4 GiB at most."""

    def __init__(self, file: BinaryIO, memory: int) -> None:
        self._file = file
        self._memory = memory
        self._start()

    def _start(self) -> None:
        self._one = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._memory)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = b""
        while not data:
            given = self._file.read(BLOCK) if self._one.needs_input else b""
            if self._one.eof:  # another stream may follow, after padding
                given = (self._one.unused_data or self._file.read(BLOCK)).lstrip(b"\0")
                if not given:
                    return 0
                self._start()
            elif self._one.needs_input and not given:
                raise EOFError("the compressed file ends early")
            data = self._one.decompress(given, len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Stream:
    """The unpacked bytes of a hostile archive, forwards only, and never more at a time than was allowed.

    tarfile believes what headers say: it reads an extended header of 4 GiB into memory, and seeks backwards for ever.
    """

    def __init__(self, raw: IO[bytes], bounds: Bounds, whole: str) -> None:
        self.bounds = bounds
        self._raw = raw
        self._whole = whole
        self._position = 0
        self._allowed = 0
        self._last = b""

    def allow(self, size: int) -> None:
        self._allowed = size

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._allowed:
            raise FetchFailure(f"{self._whole} has a header that is too long")
        self._last = self._raw.read(size)
        self._allowed -= len(self._last)
        return self._moved(self._last)

    def seek(self, position: int) -> int:
        if position < self._position:
            raise FetchFailure(f"{self._whole} has a header that points backwards")
        while position > self._position and self._moved(self._raw.read(min(BLOCK, position - self._position))):
            pass
        return self._position

    def _moved(self, data: bytes) -> bytes:
        self._position += len(data)
        if self._position > self.bounds.unpacked:
            raise FetchFailure(f"{self._whole} has more than {self.bounds.unpacked >> 20} MiB unpacked")
        return data

    def check_end(self) -> None:
        """tarfile takes a broken header, but for the first, for the end of the archive."""
        if self._last not in (b"", bytes(tarfile.BLOCKSIZE)):
            raise FetchFailure(f"{self._whole} is broken near byte {self._position} of its unpacked contents")
