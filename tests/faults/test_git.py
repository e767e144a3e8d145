"""A git remote that stalls, answers garbage, has broken objects, or was rewritten: a failure in words within its bound,
nothing that waits to be published is lost, and when it is well again the next fetch is as ever.

In: servers on loopback that misbehave, and bare repositories that are damaged and mended by hand.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from reconciler.repo import GitFailure, Mirror

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@t")
ANSWERS = {
    "says nothing": b"",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>\x1b[31mDown for repairs</html>\n",
    "a part": b"00fa" + b"a" * 40 + b" HEAD\0symref=HEAD:refs/heads/main",
}


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *IDENTITY, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(work: Path, text: str) -> str:
    (work / "platform.yaml").write_text(text)
    git(work, "add", "-A")
    git(work, "commit", "-qm", text)
    git(work, "push", "-qf", "origin", "HEAD:main")
    return git(work, "rev-parse", "HEAD")


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "remote.git")
    return tmp_path / "remote.git"


@pytest.fixture
def work(tmp_path: Path, remote: Path) -> Path:
    git(tmp_path, "clone", "-q", str(remote), "work")
    commit(tmp_path / "work", "first")
    return tmp_path / "work"


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says this to everybody, and never closes a connection; its URL."""
    kept: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                kept.append(connection)
                connection.recv(1 << 12)
                connection.sendall(answer)

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"://[::1]:{listener.getsockname()[1]}/config.git"
        listener.shutdown(socket.SHUT_RDWR)
    for connection in kept:
        connection.close()


@pytest.mark.parametrize("what", ANSWERS)
def test_a_server_that_stalls_or_answers_garbage_is_given_up_in_words(tmp_path: Path, what: str) -> None:
    with answering(ANSWERS[what]) as place:
        mirror = Mirror(f"git{place}", tmp_path / "cache", "main", "status/main", seconds=0.3)
        attempts: list[Callable[[], object]] = [mirror.fetch, lambda: mirror.publish({"README.md": b"1"}, "one")]
        for attempt in attempts:
            with pytest.raises(GitFailure) as failure:
                attempt()
            assert str(failure.value).isprintable()


def broken(remote: Path, commit: str) -> Path:
    """The remote offers a commit whose tree it does not have; where that went."""
    tree = git(remote, "rev-parse", f"{commit}^{{tree}}")
    there = remote / "objects" / tree[:2] / tree[2:]
    shutil.move(there, away := remote / "away")
    return there if away.exists() else away


def test_a_remote_with_broken_objects_costs_nothing_that_waits_to_be_published(
    remote: Path, work: Path, tmp_path: Path
) -> None:
    mirror = Mirror(f"file://{remote}", tmp_path / "cache", "main", "status/main")
    old = mirror.fetch()
    mirror.publish({"a": b"1"}, "before")
    hook = remote / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(GitFailure, match="declined"):
        mirror.publish({"a": b"2"}, "what was done meanwhile")
    hook.unlink()
    new = commit(work, "second")
    there = broken(remote, new)
    for _ in range(2):
        with pytest.raises(GitFailure, match="cannot fetch"):
            mirror.fetch()
    assert mirror.status_files() == {"a": b"2"}
    assert "platform.yaml" in mirror.tree(old).entries
    shutil.move(remote / "away", there)
    assert mirror.fetch() == new
    assert mirror.publish({}, "nothing new")
    assert git(remote, "log", "--format=%s", "status/main").splitlines() == ["what was done meanwhile", "before"]


def test_a_branch_that_was_forced_back_to_an_older_commit_is_followed(remote: Path, work: Path, tmp_path: Path) -> None:
    mirror = Mirror(f"file://{remote}", tmp_path / "cache", "main", "status/main")
    old, new = git(work, "rev-parse", "HEAD"), commit(work, "second")
    assert mirror.fetch() == new
    git(work, "push", "-qf", "origin", f"{old}:main")
    assert mirror.fetch() == old
    git(work, "push", "-q", "origin", f"{new}:main")
    assert mirror.fetch() == new
