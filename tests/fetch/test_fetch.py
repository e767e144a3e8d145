"""Pinned archives: what is fetched, what is packed, and what never reaches a host."""

from __future__ import annotations

import bz2
import contextlib
import datetime
import gzip
import hashlib
import http.server
import ipaddress
import itertools
import lzma
import os
import random
import re
import socket
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler import packing
from reconciler.archives import FetchFailure
from reconciler.fetch import BOUNDS, fetch, shown
from reconciler.hostile import normalise
from reconciler.model import Source
from reconciler.packing import pack, packed

ROOT = Path(__file__).parents[2]
CONTENT = b"an archive, as far as fetching is concerned\n" * 5000
QUICK = replace(BOUNDS, total_time=1.0, silence=5.0)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def no_git(url: str, commit: str, folder: Path) -> Path:
    raise AssertionError("git is not wanted here")


def archive(url: str, digest: str = sha256(CONTENT)) -> Source:
    return Source("archive", url, digest)


# ── a server on the loopback interface ───────────────────────────────────────────────────────────────────────


class Server(http.server.ThreadingHTTPServer):
    requests: list[str]
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested here."""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_address[1]}"


class Answers(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        getattr(self, f"get_{self.path.strip('/').partition('?')[0].replace('-', '_')}", self.get_missing)()

    def answer(self, body: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def get_good(self) -> None:
        self.answer(CONTENT)

    def get_slow(self) -> None:
        time.sleep(0.2)
        self.answer(CONTENT)

    def get_missing(self) -> None:
        self.send_error(404)

    def get_cut_off(self) -> None:
        self.answer(CONTENT[:100], len(CONTENT))

    def get_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def get_trickle(self) -> None:
        self.answer(b"", 1000)
        self.drip(b"x")

    def get_trickling_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Long: ")
        self.drip(b"x")

    def get_trickling_chunks(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        self.drip(b"0")

    def drip(self, drop: bytes) -> None:
        for _ in range(100):
            self.wfile.write(drop)
            self.wfile.flush()
            time.sleep(0.1)

    def redirect(self, url: str) -> None:
        self.send_response(302)
        self.send_header("Location", url)
        self.end_headers()

    def get_moved(self) -> None:
        self.redirect("/good")

    def get_to_http(self) -> None:
        self.redirect(self.server.url.replace("https", "http") + "/good")

    def get_to_file(self) -> None:
        self.redirect("file:///etc/hostname")

    def get_around(self) -> None:
        self.redirect("/around")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    encodings = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(key.private_bytes(*encodings) + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


@pytest.fixture
def server(certificate: Path) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), Answers) as server:
        server.requests = []
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# ── https ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/good", "/moved", "/good?token=secret"])
def test_https(server: Server, tls: ssl.SSLContext, cache: Path, path: str) -> None:
    got = fetch(archive(server.url + path), cache, None, no_git, tls=tls)
    assert got.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [got]
    assert cache.stat().st_mode & 0o077 == 0


def test_the_digest_may_carry_its_prefix(server: Server, tls: ssl.SSLContext, cache: Path) -> None:
    got = fetch(archive(server.url + "/good", "sha256:" + sha256(CONTENT)), cache, None, no_git, tls=tls)
    assert got == fetch(archive(server.url + "/good"), cache, None, no_git, tls=tls)
    assert server.requests == ["/good"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing", "status 404"),
        ("/cut-off", "ended early"),
        ("/to-http", "not https"),
        ("/to-file", "status 302"),
        ("/around", "status 302"),
    ],
)
def test_https_that_goes_wrong(server: Server, tls: ssl.SSLContext, cache: Path, path: str, says: str) -> None:
    with pytest.raises(FetchFailure, match=says):
        fetch(archive(server.url + path), cache, None, no_git, tls=tls)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("path", ["/trickle", "/trickling-headers", "/trickling-chunks"])
def test_a_server_that_trickles_is_cut_off(server: Server, tls: ssl.SSLContext, cache: Path, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(FetchFailure, match="longer than 1 s"):
        fetch(archive(server.url + path), cache, None, no_git, tls=tls, bounds=QUICK)
    assert time.monotonic() - start < 3
    assert not list(cache.iterdir())


def test_a_handshake_that_trickles_is_cut_off(tls: ssl.SSLContext, cache: Path) -> None:
    def drip() -> None:
        client, _ = listener.accept()
        client.sendall(b"\x16\x03\x03\x40\x00")  # a record of 16 KiB follows
        with client, contextlib.suppress(OSError):
            for _ in range(100):
                client.sendall(b"x")
                time.sleep(0.1)

    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(FetchFailure, match="timed out"):
            fetch(archive(url), cache, None, no_git, tls=tls, bounds=replace(BOUNDS, silence=1.0))
    assert time.monotonic() - start < 3


def test_a_server_without_end(server: Server, tls: ssl.SSLContext, cache: Path) -> None:
    with pytest.raises(FetchFailure, match="more than 1 MiB"):
        fetch(archive(server.url + "/endless"), cache, None, no_git, tls=tls, bounds=replace(BOUNDS, download=1 << 20))
    assert not list(cache.iterdir())


def test_other_contents_are_refused(server: Server, tls: ssl.SSLContext, cache: Path) -> None:
    with pytest.raises(FetchFailure, match=f"digest sha256:{sha256(CONTENT)} and not sha256:{'0' * 64}"):
        fetch(archive(server.url + "/good", "0" * 64), cache, None, no_git, tls=tls)
    assert not list(cache.iterdir())


def test_an_unknown_certificate_is_refused(server: Server, cache: Path) -> None:
    with pytest.raises(FetchFailure, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(archive(server.url + "/good"), cache, None, no_git)


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "ftp://example.org/x", "data:,x", "HTTPS://example.org", "x"])
def test_other_schemes_are_refused(cache: Path, url: str) -> None:
    with pytest.raises(FetchFailure, match="https://"):
        fetch(archive(url), cache, None, no_git)


@pytest.mark.parametrize("digest", ["", "0", "g" * 64, "../" + "0" * 64, "0" * 64 + "\n", "sha512:" + "0" * 64])
@pytest.mark.parametrize("kind", ["archive", "git"])
def test_what_is_not_pinned_is_refused(cache: Path, kind: str, digest: str) -> None:
    with pytest.raises(FetchFailure, match="not pinned"):
        fetch(Source(kind, "https://example.org/x", digest), cache, None, no_git)  # type: ignore[arg-type]


def test_urls_are_shown_without_secrets() -> None:
    assert shown("https://user:password@example.org/a.tar?token=secret#x") == "https://example.org/a.tar"
    assert shown("https://example.org?next=@x") == "https://example.org"


# ── the cache ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_cache_is_used_mended_and_not_needed(server: Server, tls: ssl.SSLContext, cache: Path) -> None:
    source = archive(server.url + "/good")
    for damage in (lambda p: None, lambda p: p.write_bytes(b"damaged"), Path.unlink):
        got = fetch(source, cache, None, no_git, tls=tls)
        assert got.read_bytes() == CONTENT
        damage(got)
    assert fetch(source, cache, None, no_git, tls=tls).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_many_threads_fetch_once(server: Server, tls: ssl.SSLContext, cache: Path) -> None:
    source = archive(server.url + "/slow")
    with ThreadPoolExecutor(16) as pool:
        got = set(pool.map(lambda _: fetch(source, cache, None, no_git, tls=tls), range(16)))
    assert len(got) == 1
    assert server.requests == ["/slow"]


# ── file:// and git ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a b.tar").write_bytes(CONTENT)
    (tmp_path / "outside.tar").write_bytes(CONTENT)
    (folder / "inside-link").symlink_to("a b.tar")
    (folder / "outside-link").symlink_to("../outside.tar")
    (folder / "loop").symlink_to("loop")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize("name", ["a%20b.tar", "inside-link", "../files/a%20b.tar"])
def test_files(files: Path, cache: Path, name: str) -> None:
    assert fetch(archive(f"file://{files}/{name}"), cache, files, no_git).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["../outside.tar", "outside-link", "loop", "nothing", "%00", "%ff", "pipe", "folder"])
def test_files_elsewhere(files: Path, cache: Path, name: str) -> None:
    with pytest.raises(FetchFailure) as failure:
        fetch(archive(f"file://{files}/{name}"), cache, files, no_git)
    assert name in str(failure.value)


def test_files_take_a_setting(files: Path, cache: Path) -> None:
    with pytest.raises(FetchFailure, match=r"`fetch\.files`"):
        fetch(archive(f"file://{files}/a%20b.tar"), cache, None, no_git)
    with pytest.raises(FetchFailure, match=r"`fetch\.files`"):
        fetch(archive(f"file://localhost{files}/a%20b.tar"), cache, files, no_git)


def test_git_is_somebody_elses(files: Path, cache: Path) -> None:
    calls: list[tuple[str, str, Path]] = []

    def git(url: str, commit: str, folder: Path) -> Path:
        calls.append((url, commit, folder))
        return folder / "it.tar"

    commit = "a" * 40
    assert fetch(Source("git", "ssh://git.example/x.git", commit), cache, None, git) == cache / "it.tar"
    assert fetch(Source("git", f"file://{files}/folder", commit), cache, files, git) == cache / "it.tar"
    assert calls[0] == ("ssh://git.example/x.git", commit, cache)
    for url in (f"file://{files}/../", f"file://{files}/outside-link", "ext::sh -c id", "http://x/"):
        with pytest.raises(FetchFailure):
            fetch(Source("git", url, commit), cache, files, git)
    assert len(calls) == 2


# ── packing ──────────────────────────────────────────────────────────────────────────────────────────────────


def tree(folder: Path, order: list[str]) -> Path:
    for name in order:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "start").chmod(0o4775)
    (folder / "link").symlink_to("deep/b")
    return folder


NAMES = ["start", "deep/b", "deep/a", "deep-er", "ü", "long/" * 30 + "x" * 120]


def test_packing_depends_on_the_contents_alone(tmp_path: Path) -> None:
    one = tree(tmp_path / "one", NAMES)
    two = tree(tmp_path / "two", NAMES[::-1])
    os.utime(two / "deep", (1, 1))
    (two / "deep").chmod(0o700)
    (two / "ü").chmod(0o600)
    assert packed(one) == packed(two)
    digest = pack(one, tmp_path / "out" / "one.tar")
    assert digest == "sha256:" + sha256(packed(two)) == "sha256:" + sha256((tmp_path / "out" / "one.tar").read_bytes())
    assert digest == "sha256:d6d364cc7205ca3e1f640a708e5f3b777a0a7386c6f12c20e7750ef4a1ae7b24"


def test_packing_and_unpacking(tmp_path: Path) -> None:
    pack(tree(tmp_path / "one", NAMES), tmp_path / "one.tar")
    with tarfile.open(tmp_path / "one.tar") as tar:
        members = {m.name: m for m in tar}
    assert [members["start"].mode, members["deep"].mode, members["deep/a"].mode] == [0o755, 0o755, 0o644]
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", 0)}
    plain = normalise(tmp_path / "one.tar")
    assert plain.read_bytes() == (tmp_path / "one.tar").read_bytes()
    (tmp_path / "two").mkdir()
    subprocess.run(["tar", "-xf", plain, "-C", tmp_path / "two"], check=True)
    assert packed(tmp_path / "two") == packed(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("pipe", os.mkfifo),
        ("absolute", lambda p: p.symlink_to("/etc/passwd")),
        ("above", lambda p: p.symlink_to("../x")),
        ("new\nline", lambda p: p.touch()),
        ("not-utf8-\udcff", lambda p: p.touch()),
    ],
)
def test_what_cannot_be_packed_is_named(tmp_path: Path, name: str, make: Callable[[Path], object]) -> None:
    folder = tmp_path / "folder" / "sub"
    folder.mkdir(parents=True)
    make(folder.parent / name)
    with pytest.raises(FetchFailure, match=re.escape(repr(name))):
        pack(folder.parent, tmp_path / "out.tar")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder"]


def test_the_sample_repository_is_pinned_to_its_files() -> None:
    sample = ROOT / "sample-repo"
    text = "\n".join(p.read_text() for p in sorted(sample.rglob("*.yaml")))
    pins = re.findall(r"archive: file:///srv/archives/(\S+)\.tar\n\s+digest: sha256:(\S+)", text)
    assert {name for name, _ in pins} == {p.name for p in (sample / "files").iterdir()}
    assert sorted(pins) == sorted((name, sha256(packed(sample / "files" / name))) for name, _ in pins)


# ── hostile archives ─────────────────────────────────────────────────────────────────────────────────────────


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **attributes: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def folder(name: str) -> bytes:
    return member(name, tarfile.DIRTYPE)


def link(name: str, target: str) -> bytes:
    return member(name, tarfile.SYMTYPE, linkname=target)


END = bytes(1024)


def normalised(tmp_path: Path, data: bytes) -> dict[str, tarfile.TarInfo]:
    path = tmp_path / "some.tar"
    path.write_bytes(data)
    try:
        with tarfile.open(normalise(path)) as tar:
            return {m.name: m for m in tar}
    finally:
        assert {p.name for p in tmp_path.iterdir()} <= {"some.tar", "some.tar.plain"}


HOSTILE = {
    "absolute": (member("/etc/passwd"), "outside"),
    "above": (member("../x"), "outside"),
    "above, hidden": (member("a/../../x"), "outside"),
    "dots inside": (member("a/../x"), "outside"),
    "absolute link": (link("l", "/etc"), "outside"),
    "link above": (link("l", "../x"), "outside"),
    "link above from below": (folder("a") + link("a/l", "../../x"), "outside"),
    "link of dots behind a name": (folder("a") + link("a/d", ".") + link("e", "a/d/../../.."), "outside"),
    "link to dots at its end": (folder("a") + link("l", "a/.."), "outside"),
    "empty link": (link("l", ""), "outside"),
    "write through a link": (link("l", "d") + folder("d") + member("l/x"), "not a directory"),
    "write through a link to nowhere": (link("l", "d") + member("l/a/x"), "not a directory"),
    "directory through a link": (link("l", "d") + folder("l/x"), "not a directory"),
    "link through a link": (link("l", "d") + link("l/x", "y"), "not a directory"),
    "below a file": (member("f") + member("f/x"), "not a directory"),
    "file over link": (link("l", "x") + member("l"), "twice"),
    "link over directory": (folder("d") + link("d", "x"), "twice"),
    "link over an implied directory": (member("d/x") + link("d", "x"), "twice"),
    "twice": (member("f") + member("f"), "twice"),
    "twice in other words": (member("a/f") + member("./a//f"), "twice"),
    "directory twice": (folder("d") + folder("d"), "twice"),
    "file without a name": (member("./"), "twice"),
    "hard link": (member("f") + member("h", tarfile.LNKTYPE, linkname="f"), "hard link"),
    "hard link outside": (member("h", tarfile.LNKTYPE, linkname="/etc/shadow"), "hard link"),
    "character device": (member("c", tarfile.CHRTYPE, devmajor=1, devminor=3), "neither"),
    "block device": (member("b", tarfile.BLKTYPE, devmajor=8), "neither"),
    "pipe": (member("p", tarfile.FIFOTYPE), "neither"),
    "unknown type": (member("u", b"Z"), "neither"),
    "contiguous and sparse": (member("s", tarfile.GNUTYPE_SPARSE), "neither|cannot be read"),
    "new line": (member("a\nb"), "control"),
    "escape": (member("a\x1b[2J"), "control"),
    "new line in a link": (link("l", "a\nb"), "control"),
    "not UTF-8": (member("a\udcffb"), "UTF-8"),
    "long component": (member("x" * 256), "too long"),
    "long name": (member("/".join(["x" * 100] * 11)), "too long"),
    "empty file": (b"", "cannot be read"),
    "no tar": (b"<!doctype html>" * 100, "cannot be read"),
    "zip": (b"PK\3\4" + bytes(1000), "cannot be read"),
    "broken gzip": (gzip.compress(member("f", content=b"x" * 9999) + END)[:50], "cannot be read"),
    "broken bzip2": (bz2.compress(os.urandom(9999))[:-50], "cannot be read"),
    "broken xz": (lzma.compress(os.urandom(9999))[:-500], "cannot be read"),
    "truncated": (member("f", content=b"x" * 9999)[:5000], "cannot be read"),
    "broken in the middle": (member("f") + b"\xff" * 512 + member("g") + END, "is broken"),
    "cut in a header": (member("f") + member("g")[:100], "is broken"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives(tmp_path: Path, name: str) -> None:
    data, says = HOSTILE[name]
    with pytest.raises(FetchFailure, match=says):
        normalised(tmp_path, data + END if "cut" not in name and data and "trunc" not in name else data)
    assert [p.name for p in tmp_path.iterdir()] == ["some.tar"]


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchFailure, match=r"the archive some\.tar: the member 'a/evil' links to outside"):
        normalised(tmp_path, folder("a") + link("a/evil", "/etc/passwd") + END)


def extended(**records: str) -> bytes:
    body = b"".join(
        next(line for n in itertools.count(len(key + value) + 3) if len(line := f"{n} {key}={value}\n".encode()) == n)
        for key, value in records.items()
    )
    return member("pax", tarfile.XHDTYPE, body)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (extended(path="../x") + member("f"), "outside"),
        (extended(linkpath="/etc") + link("l", "x"), "outside"),
        (extended(path="x" * (2 << 20)) + member("f"), "header that is too long"),
        (extended(size="99999999999999") + member("f"), "too much"),
        (extended(size="-1024") + member("f"), "."),
        (extended(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}) + member("f", content=b"9" * 512), "."),
        (extended(mtime="nan", uid="x") + member("../x"), "."),
        (member("x", tarfile.GNUTYPE_LONGNAME, b"y" * (2 << 20)) + member("f"), "header that is too long"),
        (b"".join(extended(a="b") for _ in range(3000)) + member("f"), "."),
    ],
)
def test_hostile_headers(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(FetchFailure, match=says):
        normalised(tmp_path, data + END)


def test_bombs(tmp_path: Path) -> None:
    small = replace(packing.BOUNDS, unpacked=1 << 20, members=100)
    bombs = {
        "one large file": member("f", content=bytes(2 << 20)),
        "many files": b"".join(member(f"f{i}", content=bytes(100_000)) for i in range(20)),
        "many members": b"".join(member(f"f{i}") for i in range(101)),
        "many implied members": b"".join(member(f"{i}/f") for i in range(51)),
    }
    for data in bombs.values():
        (tmp_path / "bomb").write_bytes(gzip.compress(data + END))
        with pytest.raises(FetchFailure, match=r"more than (1 MiB|100 members)"):
            normalise(tmp_path / "bomb", small)


def test_many_members(tmp_path: Path) -> None:
    assert len(normalised(tmp_path, b"".join(member(f"d/{i}") for i in range(5_000)) + END)) == 5_001


def test_xz_gets_no_more_memory_than_allowed(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
    header = lzma.compress(member("f") + END, filters=filters)
    (tmp_path / "some.tar").write_bytes(header)
    with pytest.raises(FetchFailure, match=r"[Mm]emory"):
        normalise(tmp_path / "some.tar", replace(packing.BOUNDS, memory=32 << 20))
    normalise(tmp_path / "some.tar")


# ── harmless archives ────────────────────────────────────────────────────────────────────────────────────────

HARMLESS = (
    folder("./")
    + member("./bin/run", content=b"x" * 1000, mode=0o6755, uid=1000, gid=1000, uname="somebody", mtime=1e9)
    + folder("bin")
    + member("bin/data", content=b"y" * 512, mode=0o1666)
    + link("bin/again", "../bin/./run")
    + link("nowhere", "not/there")
    + folder("empty/")
)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("end", [b"", bytes(512), END, bytes(10240), END + b"ignored" * 100])
def test_harmless_archives(tmp_path: Path, compress: Callable[[bytes], bytes], end: bytes) -> None:
    members = normalised(tmp_path, compress(HARMLESS + end))
    modes = {name: m.mode for name, m in members.items()}
    assert modes == {
        "bin": 0o755, "bin/run": 0o755, "bin/data": 0o644, "bin/again": 0o777, "nowhere": 0o777, "empty": 0o755,
    }  # fmt: skip
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members.values()} == {(0, 0, "", "", 0)}
    assert members["bin/again"].linkname == "../bin/./run"
    with tarfile.open(tmp_path / "some.tar.plain") as tar:
        file = tar.extractfile("bin/run")
        assert file is not None
        assert file.read() == b"x" * 1000


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_in_several_streams(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    data = HARMLESS + END
    assert len(normalised(tmp_path, compress(data[:700]) + compress(data[700:]))) == 6


def test_what_git_and_gnu_tar_write(tmp_path: Path) -> None:
    source = str(tree(tmp_path / "source", NAMES))
    git = ["git", "-C", source, "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "work").mkdir()
    want = {"start", "deep", "deep/b", "deep/a", "deep-er", "ü", "link"}
    for command in (
        ["git", "-C", source, "archive", "HEAD"],
        ["tar", "-C", source, "--exclude=.git", "-cf", "-", "."],
        ["tar", "-C", source, "--format=pax", "-czf", "-", "start", "deep", "deep-er", "ü", "link", "long"],
    ):
        data = subprocess.run(command, check=True, capture_output=True).stdout
        names = set(normalised(tmp_path / "work", data))
        assert want <= names
        assert max(map(len, names)) == 270


# ── properties ───────────────────────────────────────────────────────────────────────────────────────────────

WORDS = st.sampled_from(["a", "b", "..", ".", "", "c"])
PATHS = st.lists(WORDS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
MEMBERS = st.tuples(PATHS, KINDS, PATHS)


@settings(max_examples=300, deadline=None)
@given(st.lists(MEMBERS, min_size=1, max_size=6))
def test_whatever_passes_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes, str]]
) -> None:
    """Unpacked by the least careful of all unpackers, and every link followed by the kernel."""
    work = tmp_path_factory.mktemp("property")
    data = b"".join(member(name, kind, linkname=target) for name, kind, target in members)
    try:
        normalised(work, data + END)
    except FetchFailure:
        return
    (work / "in" / "side").mkdir(parents=True)
    with tarfile.open(work / "some.tar.plain") as tar:
        tar.extractall(work / "in" / "side", filter="fully_trusted")
    assert [p.name for p in (work / "in").iterdir()] == ["side"]
    for path in (work / "in" / "side").rglob("*"):
        # unless it is a link to nowhere, or to itself
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, RuntimeError):
            assert path.resolve(strict=True).is_relative_to(work / "in" / "side")


def test_no_broken_archive_raises_anything_else(tmp_path: Path) -> None:
    chance = random.Random(7)
    good = extended(path="long name") + member("f", content=b"x" * 600) + HARMLESS + END
    for turn in range(600):
        data = bytearray(chance.choice((bytes, gzip.compress, bz2.compress, lzma.compress))(good))
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "some.tar").write_bytes(data[: chance.randint(1, len(data))] if turn % 3 == 0 else data)
        with contextlib.suppress(FetchFailure):
            normalise(tmp_path / "some.tar")
