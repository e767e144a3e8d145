"""What is accepted, and what people read when something is not: `tests/cases/load/`, one folder a sentence.

Each folder is a small config repository with an `expected.txt`: a line for each Problem, its hint below it, nothing
for what is accepted. What would be too large or too hostile for a file of its own is made here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ryaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema_rs import ValidationError

from reconciler.load import (
    PATTERNS,
    ignored,
    load,
    locate,
    nearest,
    place,
    unreadable,
    whole,
)
from reconciler.model import Document, Problem, SecretFile, problem
from reconciler.schemas import SCHEMAS, customer_of, kind_of, places

CASES = sorted(path.parent for path in (Path(__file__).parent.parent / "cases" / "load").glob("*/expected.txt"))
JAIL = "customers/acme/jails/www.yaml"
HEAD = "apiVersion: reconciler.hosting/v1\nkind: Jail\nmetadata:\n  name: www\nspec:\n  blueprint: nginx\n  host: a\n"


def files(case: Path) -> dict[str, bytes]:
    return {
        path.relative_to(case).as_posix(): path.read_bytes()
        for path in sorted(case.rglob("*"))
        if path.is_file() and path.name != "expected.txt"
    }


def told(problem: Problem) -> str:
    hint = f"\n    {problem.hint}" if problem.hint else ""
    return f"{problem.path}:{problem.line}:{problem.column}: {problem.message}{hint}\n"


def problems(path: str, data: bytes) -> tuple[Problem, ...]:
    result = load(path, data)
    return result if isinstance(result, tuple) else ()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Path) -> None:
    found = [told(found) for path, data in files(case).items() for found in problems(path, data)]
    assert "".join(found) == (case / "expected.txt").read_text(encoding="utf-8")


# ── what is accepted ─────────────────────────────────────────────────────────────────────────────────────────

ACCEPTED = [
    (path, data)
    for case in CASES
    if case.name.endswith(("accepted", "not-documents"))
    for path, data in files(case).items()
    if not ignored(path)
]


def test_every_kind_has_an_accepted_document() -> None:
    results = [load(path, data) for path, data in ACCEPTED]
    assert {result.kind for result in results if isinstance(result, Document)} == set(SCHEMAS)
    assert any(isinstance(result, SecretFile) for result in results)


def test_a_document_says_whose_it_is() -> None:
    document = load(JAIL, HEAD.encode())
    assert document == Document(JAIL, "Jail", "www", "acme", {"blueprint": "nginx", "host": "a"})


def test_every_pattern_of_the_schemas_has_words() -> None:
    def patterns(schema: object) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(patterns, schema))
        if not isinstance(schema, dict):
            return set()
        own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
        names = schema.get("patternProperties", {})
        return own.union(names if isinstance(names, dict) else (), *map(patterns, schema.values()))

    assert patterns(list(SCHEMAS.values())) == set(PATTERNS)


def test_paths() -> None:
    assert {kind_of(glob.replace("*", "x")) for glob in places().values()} == set(SCHEMAS)
    assert [kind_of(path) for path in ("customers/a/b/jails/x.yaml", "hosts/.yaml", "hosts/a.yaml\n", "")] == [None] * 4
    assert [customer_of(path) for path in (JAIL, "hosts/a.yaml", "customers/x", "files/customers/y/z")] == [
        "acme",
        "",
        "",
        "",
    ]


# ── where things are ─────────────────────────────────────────────────────────────────────────────────────────

PLACES = b"a: 1\nspec:\n  publish:\n    - port: 80\n      from: [x, y]\n    - port: 81\n  more: &m {k: v}\n  same: *m\n"


@pytest.mark.parametrize(
    ("pointer", "where"),
    [
        ((), (1, 1)),
        (("spec",), (2, 1)),
        (("spec", "publish", 0, "from", 1), (5, 17)),
        (("spec", "publish", 1), (6, 7)),
        (("spec", "publish", 1, "from"), (6, 7)),
        (("spec", "publish", 7, "from"), (3, 3)),
        (("spec", "absent", "deeper"), (2, 1)),
        (("spec", "same"), (8, 3)),
    ],
)
def test_locate(pointer: tuple[str | int, ...], where: tuple[int, int]) -> None:
    assert locate(PLACES, pointer) == where
    assert locate(b"\xef\xbb\xbf" + PLACES.replace(b"\n", b"\r\n"), pointer) == where


def test_locate_in_what_ruamel_may_not_see() -> None:
    data = b"spec:\n  tables:\n    big:\n" + b"    - 2001:db8::/32\n" * 30_000 + b"  in:\n  - ports: [0]\n"
    assert locate(data, ("spec", "tables", "big", 20_000)) == (20_004, 7)
    assert locate(data, ("spec", "in")) == (30_004, 3)
    assert locate(b"[" * 40_000, ("a", 1)) == (1, 1)


def test_place() -> None:
    found = place(problem("a.yaml", ("spec", "publish", 0, "port"), "taken", "take another"), PLACES)
    assert told(found) == "a.yaml:4:7: taken\n    take another\n"
    assert place(found, b"") is found


def test_nearest() -> None:
    known = ["nginx", "nextcloud", "Postgres"]
    assert [nearest(word, known) for word in ("nginz", "postgres", "zope", "")] == ["nginx", "Postgres", "", ""]


def test_unreadable() -> None:
    assert unreadable("a", "too old") == Problem("a", 1, 1, "this cannot be read: too old")


def test_a_pattern_is_of_the_whole_text() -> None:
    assert [whole("a|b").is_valid(text) for text in ("a", "b", "ab", "a\n", "xa")] == [True, True, False, False, False]
    assert not whole("(a+)+").is_valid("a" * 100_000 + "!")
    for wrong in ("a)|(b", "(", r"(a)\1", "(?=a)"):
        with pytest.raises(ValidationError):
            whole(wrong)


# ── hostile files ────────────────────────────────────────────────────────────────────────────────────────────


def bomb(levels: int, width: int) -> str:
    lines = ["  a0: &a0 [x, x]"]
    lines += [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return HEAD + "\n".join(lines)


HOSTILE = {
    "five megabytes": b"a" * 5_000_000,
    "brackets": b"[" * 40_000,
    "closed brackets": b"[" * 4_000 + b"]" * 4_000,
    "braces": b"{a: " * 40_000,
    "brackets that a count of depth misses": b'{"}": ' * 40_000,
    "dashes": b"- " * 500_000,
    "question marks": b"? " * 500_000,
    "steps": "\n".join(" " * n + "a:" for n in range(1_400)).encode(),
    "alias bomb": bomb(10, 9).encode(),
    "small alias bomb": bomb(4, 9).encode(),
    "one large list, often": ("a: &a [" + "x," * 100_000 + "]\nb: [" + "*a," * 100_000 + "]").encode(),
    "an alias to itself": b"a: &a [*a]",
    "unknown keys": "".join(f"k{n}: 1\n" for n in range(90_000)).encode(),
    "doubled keys": b"a: 1\n" * 200_000,
    "wrong items": (HEAD + "  after:\n" + "  - 1\n" * 170_000).encode(),
    "the same items": (HEAD + "  after: [" + "a," * 500_000 + "]\n").encode(),
    "a long number": b"a: " + b"9" * 1_000_000,
    "exclamation marks": b"- !a\n" * 200_000,
    "tags": (HEAD + "  after:\n" + "  - !a b\n" * 5_000).encode(),
    "a long name": (HEAD.replace("www", "w" * 900_000)).encode(),
    "a surrogate": HEAD.replace("www", r'"\\ud800"').encode(),
    "an exponent": (HEAD + "  restart: 1e999\n").encode(),
    "null and float keys": (HEAD + "  ~: 1\n  .inf: 2\n").encode(),
    "a byte order mark inside": HEAD.encode() + b"  switch: a\xef\xbb\xbfb\n",
    "other line breaks": HEAD.encode() + "  switch: a\x85b\u2028c\n".encode(),
    "a lone carriage return": HEAD.replace("\n", "\r").encode() + b"  x: 1\r",
    "a directive": b"%YAML 9.9\n%TAG ! tag:x,\n---\n" + HEAD.encode() + b"  x: 1\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_problems_with_a_place_and_soon(name: str) -> None:
    begun = time.process_time()
    found = problems(JAIL, HOSTILE[name])
    assert found
    assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in found)
    assert len(found) <= 101
    assert time.process_time() - begun < 10  # the slowest take about two seconds


def test_a_large_secret() -> None:
    data = b"-----BEGIN AGE ENCRYPTED FILE-----\n" + b"A" * 70_000
    assert told(*problems("customers/acme/secrets/a.age", data)).startswith(
        "customers/acme/secrets/a.age:1:1: this secret is 70,035 bytes long; at most 65,536 are accepted\n"
    )


# ── anything at all ──────────────────────────────────────────────────────────────────────────────────────────

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    80.0,
    float("nan"),
    10**18,
    "",
    "x",
    "80",
    "a\n",
    "\x1b",
    [],
    ["x"],
    [[]],
    {},
    {"x": 1},
    {"<<": {}},
]


def replaced(value: Any, odd: Any) -> Iterator[Any]:
    """The value with each part of it in turn being something odd."""
    yield odd
    for step, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        for part in replaced(item, odd):
            copy = value.copy()
            copy[step] = part
            yield copy


@pytest.mark.parametrize(("path", "data"), [(path, data) for path, data in ACCEPTED if kind_of(path)])
def test_every_value_can_be_any_other(path: str, data: bytes) -> None:
    document = ryaml.loads(data.decode("utf-8-sig"))
    for odd in ODD:
        for value in replaced(document, odd):
            result = load(path, ryaml.dumps(value).encode())
            assert isinstance(result, Document) or result


SPLICES = b'|\n|\t|\x00|\xff|: |- |[|}|"|&a |*a|!!str |<<: |1.0|---\n|1|~'.split(b"|")
PIECE = st.sampled_from(SPLICES) | st.binary(max_size=6)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    path, data = draw(st.sampled_from(ACCEPTED))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(PIECE) + data[at + draw(st.integers(0, 12)) :]
    return path, data


@given(mutated())
@example((JAIL, b"\xef\xbb\xbf\xef\xbb\xbf"))
@example((JAIL, f"{HEAD}  release:\n".encode()))
@settings(max_examples=300, deadline=None)
def test_anything_is_a_document_or_problems_with_places(case: tuple[str, bytes]) -> None:
    path, data = case
    result = load(path, data)
    if isinstance(result, tuple):
        lines = data.count(b"\n") + data.count(b"\r") + data.count(b"\xc2\x85") + data.count(b"\xe2\x80") + 1
        assert result
        assert all(1 <= problem.line <= lines and problem.column >= 1 for problem in result)
    elif isinstance(result, Document):
        assert result.spec == json.loads(json.dumps(result.spec))


@given(st.text(max_size=40), st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_path_is_ignored_or_answered(path: str, data: bytes) -> None:
    assert load(path, data) != () or ignored(path)
