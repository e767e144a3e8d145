"""A document: whether it is accepted, and everything that is wrong with it if not.

In: a path where documents of a kind live, and bytes. Out: a Document, or Problems with their places, one a place, in
the file's order. What no parser should be given is found by counting. The accepting path words nothing; only where
one of its judges says no is the same looked at again for words. Must not know: what the documents mean together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from sys import intern
from typing import Any

import ryaml

from reconciler.load.faults import shape
from reconciler.load.files import fill, folder_name, model
from reconciler.load.formats import NAME, judge
from reconciler.load.positions import BOM, position
from reconciler.load.syntax import tags, undecodable, unparsed
from reconciler.load.words import MOST, Finding, printable, shown, where
from reconciler.model import Document, Pointer, Problem
from reconciler.schemas import SCHEMAS, customer_of, places

LARGEST = 1 << 20
"""Bytes of a document; refused before anything parses it."""
BRACKETS = 5_000
"""Opening brackets in a document: the parser's time grows with the square of their depth (40,000 take 6 s)."""
UNFOLDED = 4 << 20
"""Characters of a document with its aliases unfolded, by an upper bound: ryaml itself lets 50 KB become 10^8 values."""


def document(path: str, kind: str, data: bytes) -> Document | tuple[Problem, ...]:
    if refusal := _hostile(data):
        return (Problem(path, 1, 1, *refusal),)
    try:
        text = data.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        return (undecodable(path, data, error.start),)
    try:
        value = ryaml.loads(text)
    except ValueError as error:  # InvalidYamlError is one
        return unparsed(path, text, str(error))
    customer = customer_of(path)
    if not _flawless(path, kind, customer, text, value):
        return _problems(path, kind, customer, text, value)
    try:
        return Document(path, kind, value["metadata"]["name"], customer, _kept(value["spec"]))
    except _Fraction:
        return _problems(path, kind, customer, text, value)


def _hostile(data: bytes) -> tuple[str, str] | None:
    """What no parser should be given, found by counting; (message, hint)."""
    if len(data) > LARGEST:
        return f"this file is {len(data):,} bytes long; at most {LARGEST:,} are accepted", "split it"
    if data.count(b"[") + data.count(b"{") > BRACKETS:
        return f"there are more than {BRACKETS:,} opening brackets in this file", "write lists as lines with -"
    if b"*" in data and b"&" in data and _unfolded(data) > UNFOLDED:
        return "the aliases (*name) in this file unfold to far too much", "write out what &name stands for"
    return None


def _unfolded(data: bytes) -> int:
    """An upper bound of the length with aliases unfolded: each anchor multiplies by one more than its aliases.

    A name that is anchored again counts afresh; an & or * in a text or comment only raises the bound.
    """
    size, aliases = len(data), dict[bytes, int]()
    for sign, name in re.findall(rb"([&*])([0-9A-Za-z_-]+)", data):
        if sign == b"&":
            size *= 1 + aliases.pop(name, 0)
        aliases[name] = aliases.get(name, 0) + (sign == b"*")
        if size > UNFOLDED:
            return size
    for count in aliases.values():
        size *= 1 + count
    return size


def _flawless(path: str, kind: str, customer: str, text: str, value: Any) -> bool:
    """The accepting path: every judge says yes, and nothing is worded."""
    try:
        return (
            judge(kind).is_valid(value)
            and _name(path, kind) in (None, value["metadata"]["name"])
            and not folder_name(customer)
            and not ("!" in text and any(tags(path, text)))
        )
    except ValueError:  # jsonschema-rs refuses to look at mappings whose keys are not text
        return False


class _Fraction(Exception):
    """To JSON Schema 80.0 is an integer; in a generated file it is another text than 80."""


def _kept(value: Any) -> Any:
    """The same, with each key once in memory for all documents: a fifth less of it at 100,000 jails."""
    if type(value) is dict:
        return {intern(key): item if type(item) is str else _kept(item) for key, item in value.items()}
    if type(value) is list:
        return [item if type(item) is str else _kept(item) for item in value]
    if type(value) is float:
        raise _Fraction
    return value


# ── what is wrong with it ────────────────────────────────────────────────────────────────────────────────────


def _problems(path: str, kind: str, customer: str, text: str, value: Any) -> tuple[Problem, ...]:
    """Every finding, one a place, in the file's order."""
    found: dict[Pointer, Finding] = {}
    for finding in islice(_findings(path, kind, customer, value), 10 * MOST):
        found.setdefault(finding.pointer, finding)
    meant = {finding.mends for finding in found.values()} - {()}
    told = [finding for pointer, finding in found.items() if pointer not in meant]
    problems = {Problem(path, *position(text, f.pointer, f.at_key), f.message, f.hint) for f in told[:MOST]}
    problems.update(islice(tags(path, text), MOST))
    if len(told) > MOST or len(problems) > MOST:
        more = Problem(path, 1, 1, f"there are more problems in this file; these are {MOST} of them")
        return (*sorted(problems)[:MOST], more)
    return tuple(sorted(problems))


def _findings(path: str, kind: str, customer: str, value: Any) -> Iterator[Finding]:
    yield from folder_name(customer)
    if isinstance(value, dict):
        other = value.get("kind")
        if other != kind and isinstance(other, str) and other in SCHEMAS:
            # Everything else would be measured against the wrong schema, and only confuse.
            right = fill(places()[other], path)
            yield Finding(
                ("kind",),
                f"this is of kind {other}, but {model(places()[kind])} is where {kind} documents live",
                f"write kind: {kind}, or move the file to {printable(right)}",
            )
            return
        yield from _misnamed(path, kind, value)
    yield from _odd_keys(value, ())
    yield from shape(kind, _text_keys(value))
    yield from _fractions(value, ())


def _name(path: str, kind: str) -> str | None:
    """The name is the file's, so that a person finds the file; a customer's is the folder's; None: any will do."""
    glob = places()[kind]
    if "*" not in glob:
        return None
    folder, file = path.split("/")[-2:]
    return folder if glob.endswith("*/customer.yaml") else file.removesuffix(".yaml")


def _misnamed(path: str, kind: str, value: dict[Any, Any]) -> Iterator[Finding]:
    metadata = value.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    right = _name(path, kind)
    if right is None or not isinstance(name, str) or name == right:
        return
    what, ending = ("folder", "") if path.endswith("/customer.yaml") else ("file", ".yaml")
    mend = f"rename the {what} to {printable(name)}{ending}"
    if re.fullmatch(NAME[1:-1], right):
        mend = f"write name: {right}, or {mend}"
    elif not re.fullmatch(NAME[1:-1], name):
        return  # the schema's judge has better words for a name that is wrong in itself
    yield Finding(("metadata", "name"), f"metadata.name is {shown(name)}, but the {what} is {shown(right)}", mend)


def _text_keys(value: Any) -> Any:
    """A copy that jsonschema-rs can look at."""
    if isinstance(value, dict):
        return {_key(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list) else value


def _key(key: Any) -> str:
    """A key as it probably stands in the file."""
    return key if isinstance(key, str) else json.dumps(key)


def _children(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return ((_key(key), item) for key, item in value.items())
    return enumerate(value) if isinstance(value, list) else ()


def _odd_keys(value: Any, pointer: Pointer) -> Iterator[Finding]:
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            at = (*pointer, _key(key))
            yield Finding(at, f"{where(at)}: a key has to be text, not {shown(key)}", "put it in quotes", True)
    for step, item in _children(value):
        yield from _odd_keys(item, (*pointer, step))


def _fractions(value: Any, pointer: Pointer) -> Iterator[Finding]:
    if isinstance(value, float):
        hint = f"write {int(value)}" if value.is_integer() else ""
        yield Finding(pointer, f"{where(pointer)} must be a whole number, not {shown(value)}", hint)
    for step, item in _children(value):
        yield from _fractions(item, (*pointer, step))
