"""A Compiler that has seen other commits answers as a new one does: the sample, edited at random, many times over.

Trees are dictionaries; a file's bytes stand for its blob. A work tree has no blobs, so all of it is read again.
"""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reconciler.repo import Entry
from reconciler.revision import REVIEW, Compiler

SAMPLE = Path(__file__).parents[2] / "sample-repo"
FILES = {
    path.relative_to(SAMPLE).as_posix(): path.read_bytes()
    for path in sorted(SAMPLE.rglob("*"))
    if path.is_file() and "files" not in path.relative_to(SAMPLE).parts
}
FILES |= {"lists/attackers.txt": b"203.0.113.0/24\n", "customers/acme/lists/payments.txt": b"198.51.100.80/28\n"}


class Memory:
    """A snapshot of a dictionary, which notes what is read."""

    def __init__(self, files: dict[str, bytes], blobs: bool = True) -> None:
        self.files = dict(sorted(files.items()))
        self.entries = {p: Entry("100644", hashlib.sha1(d).hexdigest() * blobs) for p, d in self.files.items()}
        self.asked: list[str] = []

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        for path in paths:
            self.asked.append(path)
            yield path, self.files[path]


EDITS = st.lists(
    st.tuples(st.sampled_from(sorted(FILES)), st.sampled_from(["gone", "back", "broken", "renamed", "spaced"])),
    min_size=1,
    max_size=8,
)


def edited(files: dict[str, bytes], path: str, edit: str) -> dict[str, bytes]:
    others = {p: data for p, data in files.items() if p not in (path, f"{path}.yaml")}
    match edit:
        case "gone":
            return others
        case "renamed":
            return {**others, f"{path}.yaml": FILES[path]}
        case "broken":
            return {**others, path: FILES[path] + b"\nnonsense: ["}
        case "spaced":
            return {**others, path: FILES[path] + b"\n"}
    return {**others, path: FILES[path]}


@given(EDITS)
@example([("customers/acme/secrets/db-password.age", "broken")])
@example([("customers/acme/lists/payments.txt", "broken")])
@settings(max_examples=25, deadline=None)
def test_a_compiler_with_a_past_answers_as_a_new_one(edits: list[tuple[str, str]]) -> None:
    old, files = Compiler(), FILES
    old.compile(Memory(files))
    for path, edit in edits:
        files = edited(files, path, edit)
        assert old.compile(Memory(files)) == Compiler().compile(Memory(files))


def test_only_what_differs_is_read() -> None:
    compiler = Compiler()
    compiler.compile(Memory(FILES))
    path = "customers/acme/jails/www.yaml"
    later = Memory(edited(FILES, path, "spaced"))
    compiler.compile(later)
    assert later.asked == [path]


@pytest.mark.parametrize("times", [1, 2])
def test_a_work_tree_is_read_whole_each_time(times: int) -> None:
    compiler = Compiler()
    snapshot = Memory(FILES, blobs=False)
    for _ in range(times):
        snapshot.asked = []
        compiler.compile(snapshot)
        assert {path for path in FILES if not path.endswith(".md")} == set(snapshot.asked)


class Ring:
    """Something that only the garbage collector can find."""

    def __init__(self) -> None:
        self.itself = self


def test_what_is_let_go_out_of_the_collectors_sight_is_found_some_commits_of_staff_later() -> None:
    compiler, ring = Compiler(), Ring()
    trace = weakref.ref(ring)
    compiler.compile(Memory(FILES))
    del ring
    gc.collect()
    assert trace() is not None
    for edit in ("spaced", "back") * (REVIEW // 2):
        compiler.compile(Memory(edited(FILES, "policies/edge.yaml", edit)))
    assert trace() is None
