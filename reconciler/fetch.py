"""Pinned archives: gets them, and checks that they are the ones that are meant.

In: a Source (URL and digest) that a customer may have written, and a cache that may be deleted at any time. Out: a
file whose bytes are the ones the digest names. All that comes over the network is hostile until it is checked here, and
every wait and size has a bound. Must not know: git (a callable is passed in), SSH, hosts, and what is in an archive.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from reconciler.archives import BLOCK, FetchFailure, replacing, sha256
from reconciler.model import Source

GitArchive = Callable[[str, str, Path], Path]
"""`repo.archive(url, commit, folder)`: a tar of the commit, somewhere below the folder."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much and how long: sizes in bytes, times in seconds."""

    download: int = 512 << 20
    total_time: float = 600
    silence: float = 30


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
    if sha256(target) == digest:
        return target
    found = hashlib.sha256()
    chunks = _chunks(source.url, files_root, tls, bounds)
    with replacing(target, 0o600) as file, contextlib.closing(chunks):
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
