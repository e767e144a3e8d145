"""Pinned archives: gets them, checks them, makes them safe to unpack as root, and packs them in the first place.

In: a Source (URL and digest) that a customer may have written, and a cache that may be deleted at any time. Out: a
file whose bytes are the ones the digest names, and from it a plain tar of files, directories and harmless links. All
that comes over the network or out of an archive is hostile until it is checked here, and every wait, size and count
has a bound. Must not know: git (a callable is passed in), SSH, hosts, and what the archives are for.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import http.client
import io
import lzma
import os
import re
import socket
import ssl
import tarfile
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
import weakref
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Never

from reconciler.model import Source

GitArchive = Callable[[str, str, Path], Path]
"""`repo.archive(url, commit, folder)`: a tar of the commit, somewhere below the folder."""

BLOCK = 64 << 10


class FetchFailure(Exception):
    """An archive that cannot be had or cannot be trusted; the message says which, why, and how to mend it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of everything: sizes in bytes, times in seconds."""

    download: int = 512 << 20
    total_time: float = 600
    silence: float = 30
    unpacked: int = 4 << 30
    members: int = 200_000
    name: int = 1024
    component: int = 255
    header: int = 1 << 20
    """What the headers of one member may take, extended ones included."""
    memory: int = 256 << 20
    """What unpacking xz may take; `xz -9` needs 65 MiB."""


BOUNDS = Bounds()


# ── getting ──────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(
    source: Source,
    cache: Path,
    files_root: Path | None,
    git_archive: GitArchive,
    *,
    tls: ssl.SSLContext | None = None,
    bounds: Bounds = BOUNDS,
) -> Path:
    """The archive that the source names, from the cache or from where it is; FetchFailure when it cannot be had.

    `files_root` is the setting `fetch.files`: the directory below which file:// URLs may point, None for nowhere.
    What `git_archive` raises passes through.
    """
    pattern = r"(sha256:)?[0-9a-f]{64}" if source.kind == "archive" else r"[0-9a-f]{40}|[0-9a-f]{64}"
    if not re.fullmatch(pattern, source.digest):
        raise FetchFailure(f"{shown(source.url)} is not pinned: {source.digest!r} is not a digest")
    with _one_at_a_time(source.digest):
        if source.kind == "git":
            return _commit(source, cache, files_root, git_archive)
        return _archive(source, cache, files_root, tls, bounds)


def shown(url: str) -> str:
    """The URL as people may see it: without password and query, where tokens live."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2]}"


def _commit(source: Source, cache: Path, files_root: Path | None, git_archive: GitArchive) -> Path:
    scheme, url = source.url.partition("://")[0], source.url
    if scheme not in ("https", "ssh", "file"):
        raise FetchFailure(f"{shown(url)}: a git repository is fetched over https:// or ssh://")
    if scheme == "file":
        url = _allowed(url, files_root).as_uri()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    return git_archive(url, source.digest, cache)


def _archive(source: Source, cache: Path, files_root: Path | None, tls: ssl.SSLContext | None, bounds: Bounds) -> Path:
    digest = source.digest.removeprefix("sha256:")
    target = cache / f"{digest}.tar"
    if _sha256(target) == digest:
        return target
    found = hashlib.sha256()
    chunks = _chunks(source.url, files_root, tls, bounds)
    with _replacing(target, 0o600) as file, contextlib.closing(chunks):
        for chunk in chunks:
            found.update(chunk)
            file.write(chunk)
            if file.tell() > bounds.download:
                raise FetchFailure(f"{shown(source.url)} has more than {bounds.download >> 20} MiB: make it smaller")
        if found.hexdigest() != digest:
            raise FetchFailure(
                f"{shown(source.url)} has the digest sha256:{found.hexdigest()} and not sha256:{digest}: "
                "if its new contents are right, write their digest into the document"
            )
    return target


def _sha256(path: Path) -> str:
    """The digest of what is really there, since a cache entry may be damaged; "" when there is nothing."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _chunks(
    url: str, files_root: Path | None, tls: ssl.SSLContext | None, bounds: Bounds
) -> Generator[bytes, None, None]:
    scheme = url.partition("://")[0]
    try:
        if scheme == "https":
            yield from _download(url, tls or ssl.create_default_context(), bounds)
        elif scheme == "file":
            with _allowed(url, files_root).open("rb") as file:
                while chunk := file.read(BLOCK):
                    yield chunk
        else:
            raise FetchFailure(f"{shown(url)}: archives are fetched over https://")
    except urllib.error.HTTPError as error:  # its own words may hold the address of a redirect, with a token
        raise FetchFailure(f"{shown(url)} cannot be fetched: the server answers with status {error.code}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise FetchFailure(f"{shown(url)} cannot be fetched: {error}") from error


def _allowed(url: str, files_root: Path | None) -> Path:
    """The file or repository that a file:// URL means, if it lies below the root once all links are followed."""
    if files_root is None:
        raise FetchFailure(f"{shown(url)}: file:// is not allowed here: the setting `fetch.files` names no directory")
    rest = url.removeprefix("file://")
    try:
        path = Path(urllib.parse.unquote(rest, errors="strict")).resolve(strict=True)
        inside = rest.startswith("/") and path.is_relative_to(files_root.resolve(strict=True))
    except (OSError, ValueError, RuntimeError) as error:
        raise FetchFailure(f"{shown(url)} is not there; the setting `fetch.files` says what it lies below") from error
    if not inside:
        raise FetchFailure(f"{shown(url)} is not below the directory that the setting `fetch.files` names")
    if not (path.is_file() or path.is_dir()):  # opening a pipe would wait for ever
        raise FetchFailure(f"{shown(url)} is neither a file nor a directory")
    return path


@contextlib.contextmanager
def _replacing(target: Path, mode: int) -> Iterator[BinaryIO]:
    """A file that takes the target's place when all went well, so that nobody ever sees half of it."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_locks: weakref.WeakValueDictionary[str, threading.Lock] = weakref.WeakValueDictionary()
_locks_lock = threading.Lock()


@contextlib.contextmanager
def _one_at_a_time(digest: str) -> Iterator[None]:
    """Several workers may want the same digest: the first one fetches it, the others find it in the cache."""
    with _locks_lock:
        lock = _locks.get(digest)
        if lock is None:
            lock = _locks[digest] = threading.Lock()
    with lock:
        yield


# ── the network ──────────────────────────────────────────────────────────────────────────────────────────────


def _download(url: str, tls: ssl.SSLContext, bounds: Bounds) -> Generator[bytes, None, None]:
    line = _Line(tls)
    opener = urllib.request.OpenerDirector()
    for handler in (line, _Redirects(), urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor()):
        opener.add_handler(handler)
    timer = threading.Timer(bounds.total_time, line.cut)
    timer.daemon = True
    timer.start()
    late = f"{shown(url)} took longer than {bounds.total_time:g} s"
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "reconciler"})
        with opener.open(request, timeout=bounds.silence) as response:
            while chunk := response.read1(BLOCK):
                yield chunk
            if response.length:
                raise OSError("the connection ended early")
        if line.is_cut:
            raise FetchFailure(late)
    except (OSError, http.client.HTTPException) as error:
        if line.is_cut:
            raise FetchFailure(late) from error
        raise
    finally:
        timer.cancel()


class _Line(urllib.request.HTTPSHandler):
    """HTTPS that can be cut from another thread.

    A socket's own timeout starts anew with every byte: a server that sends one now and then would hold us for days.
    (The handshake is the exception: ssl.SSLSocket.do_handshake takes the timeout for the whole of it.)
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        super().__init__(context=tls)
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self.is_cut = False

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)

    def _connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        return _Connection(host, context=self._tls, connected=self._connected, **options)

    def _connected(self, line: socket.socket) -> None:
        self._sockets.append(line)
        if self.is_cut:
            raise TimeoutError("too late")

    def cut(self) -> None:
        self.is_cut = True
        for line in self._sockets:
            with contextlib.suppress(OSError):
                # not SSLSocket.shutdown, which takes the cipher away below the feet of a thread that reads
                socket.socket.shutdown(line, socket.SHUT_RDWR)


class _Connection(http.client.HTTPSConnection):
    """Tells who its socket is: urllib lets go of it before the body is read."""

    def __init__(self, host: str, *, connected: Callable[[socket.socket], None], **options: Any) -> None:
        super().__init__(host, **options)
        self._connected = connected

    def connect(self) -> None:
        super().connect()
        self._connected(self.sock)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise FetchFailure(f"{shown(req.full_url)} redirects to something that is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


# ── packing: the same tree gives the same bytes on any machine ────────────────────────────────────────────────


def pack(folder: Path, target: Path) -> str:
    """Writes the uncompressed tar of a folder; returns its digest, `sha256:…`, as it stands in YAML."""
    with _replacing(target, 0o644) as file:
        _write_tree(folder, file)
    return "sha256:" + _sha256(target)


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
        with _plain_tar(file) as tar:
            for path in sorted(folder.rglob("*"), key=os.fsencode):
                _write_path(tar, members, path, path.relative_to(folder).as_posix())
    except OSError as error:
        raise FetchFailure(f"the folder {folder.name} cannot be packed: {error}") from error


def _write_path(tar: tarfile.TarFile, members: Members, path: Path, name: str) -> None:
    if path.is_symlink():
        _write(tar, members.link(name, os.readlink(path)))
    elif path.is_dir():
        _write(tar, members.directory(name))
    elif path.is_file():
        with path.open("rb") as content:
            status = os.fstat(content.fileno())
            _write(tar, members.file(name, status.st_size, bool(status.st_mode & 0o100)), content)
    else:
        members.refuse(name, "is neither a file, a directory nor a symbolic link")


def _plain_tar(file: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="strict")


def _write(tar: tarfile.TarFile, members: list[tarfile.TarInfo], content: Any = None) -> None:
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


# ── making safe ──────────────────────────────────────────────────────────────────────────────────────────────

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
        with _replacing(target, 0o600) as file, archive.open("rb") as raw, _plain_tar(file) as tar:
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
        _write(tar, members.directory(member.name))
    elif member.issym():
        _write(tar, members.link(member.name, member.linkname))
    elif member.islnk():
        members.refuse(member.name, "is a hard link: pack with `reconciler pack`, or `tar --hard-dereference`")
    elif member.isreg() and not member.issparse():
        # after a header tarfile leaves the stream where the content begins
        _write(tar, members.file(member.name, member.size, bool(member.mode & 0o100)), stream)
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
