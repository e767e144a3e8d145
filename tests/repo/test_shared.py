"""One ref of a real bare repository, said and swapped by several who share nothing else."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.repo import GitFailure, Refused, SharedRef

REF = "refs/leases/main"


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    # --shared also forbids rewinding branches
    subprocess.run(["git", "init", "-q", "--bare", "--shared", tmp_path / "config.git"], check=True)
    return tmp_path / "config.git"


def shared(remote: Path) -> SharedRef:
    return SharedRef(f"file://{remote}", REF, remote.parent / "exchange")


def test_words_are_swapped_only_for_those_that_were_read(remote: Path) -> None:
    ref = shared(remote)
    assert ref.read() is None
    first = ref.swap(None, "first")
    assert first and ref.read() == first == replace(first, words="first")
    assert ref.swap(None, "late") == first
    second = ref.swap(first, "second")
    assert ref.swap(first, "late") == ref.swap(first, "") == ref.read() == second
    assert ref.swap(second, "first") == first
    assert ref.swap(first, "") is ref.read() is None
    assert ref.swap(first, "late") is None
    subprocess.run(["git", "-C", remote, "fsck", "--strict"], check=True)


def test_a_ref_that_begins_alike_is_another_one(remote: Path) -> None:
    other = SharedRef(f"file://{remote}", f"{REF}-2", remote.parent / "exchange").swap(None, "other")
    assert shared(remote).read() is None
    assert shared(remote).swap(None, "ours") != other


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_local_remote_of_another_user_is_read_and_written(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(remote, 65534, 65534)
    said = shared(remote).swap(None, "ours")
    assert said and shared(remote).read() == said


def test_a_remote_that_is_away_and_one_that_refuses_are_told_apart(remote: Path) -> None:
    ref = shared(remote)
    subprocess.run(["git", "-C", remote, "config", "receive.hideRefs", "refs/leases"], check=True)
    with pytest.raises(Refused, match=f"does not let us write {REF}: .*hidden ref"):
        ref.swap(None, "words")
    remote.rename(remote.with_suffix(".away"))
    for ask in (ref.read, lambda: ref.swap(None, "words")):
        with pytest.raises(GitFailure, match="cannot (reach|push to)") as failure:
            ask()
        assert not isinstance(failure.value, Refused)


def test_an_exchange_leaves_nothing_behind(remote: Path) -> None:
    ref = shared(remote)
    assert ref.swap(None, "words") and ref.read()
    assert list((remote.parent / "exchange").iterdir()) == []


def test_a_folder_that_cannot_be_written_says_so(remote: Path) -> None:
    (remote.parent / "exchange").write_text("")
    with pytest.raises(GitFailure, match="Check space and permissions"):
        shared(remote).read()
