"""Words for what the judge found: one error of jsonschema-rs → what is wrong and how to mend it.

In: a kind, and a value that its schema refuses. Out: Findings, from the schema's own descriptions and examples where
it has any. WORDS, at the end, is the table of contents: a JSON Schema keyword a line. Must not know: YAML, positions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from typing import Any

import jsonschema_rs

from reconciler.load.formats import FORMATS, PATTERNS, canonical, described, judge, part, pattern_hint, whole
from reconciler.load.words import MOST, Finding, nearest, printable, shown, where
from reconciler.model import Pointer
from reconciler.schemas import SCHEMAS, Schema


@dataclass(frozen=True)
class _Fault:
    """One error of jsonschema-rs: which keyword of which part of the schema says no to which value."""

    keyword: str
    pointer: Pointer
    value: Any
    schema: Schema
    details: dict[str, Any]
    kind: str
    message: str

    @property
    def where(self) -> str:
        return where(self.pointer)

    def says(self, message: str, hint: str = "") -> Finding:
        return Finding(self.pointer, f"{self.where} {message}", hint)


def shape(kind: str, value: Any) -> Iterator[Finding]:
    faults = [_fault(kind, value, error) for error in islice(judge(kind).iter_errors(value), 10 * MOST)]
    # These say it more exactly than a pattern or a oneOf beside them; the first finding of a place is kept.
    for fault in sorted(faults, key=lambda fault: fault.keyword not in {"type", "format"}):
        yield from WORDS.get(fault.keyword, _other)(fault)


def _fault(kind: str, document: Any, error: jsonschema_rs.ValidationError) -> _Fault:
    pointer = tuple(error.instance_path)
    schema = part(kind, *error.schema_path[:-1])
    value = reduce(lambda found, step: found[step], pointer, document)
    return _Fault(error.kind.name, pointer, value, schema, error.kind.as_dict(), kind, error.message)


def _missing(fault: _Fault) -> Iterator[Finding]:
    key = fault.details["property"]
    schema = fault.schema.get("properties", {}).get(key, {})
    hint = f"write {key}: {schema['const']}" if "const" in schema else described(schema)
    yield Finding((*fault.pointer, key), f"{where((*fault.pointer, key))} is missing", hint)


def _unknown(fault: _Fault) -> Iterator[Finding]:
    for key in fault.details["unexpected"][: MOST + 1]:
        at = (*fault.pointer, key)
        known = [name for name in fault.schema.get("properties", {}) if name not in fault.value]
        home = _home(fault, key)
        guess = "" if home else nearest(key, known)
        message = f"{where(at)}: there is no key {shown(key)} here"
        if key == "<<":
            message = f"{where(at)}: merge keys (<<) are not part of YAML 1.2"
        hint = f"did you mean {guess}?" if guess else home or _unknown_hint(fault, key, known)
        yield Finding(at, message, hint, True, (*fault.pointer, guess) if guess else ())


def _unknown_hint(fault: _Fault, key: str, known: list[str]) -> str:
    """When no key is like it: perhaps it is another document's, perhaps a name that has to look otherwise."""
    if key == "<<":
        return "write the keys out"
    if fault.pointer == ("spec",) and (others := [kind for kind in SCHEMAS if _speaks_of(kind, key)]):
        return f"that is for a {others[0]} to say: {SCHEMAS[others[0]]['x-path']}"
    if names := fault.schema.get("patternProperties"):
        return f"a name here is {' or '.join(PATTERNS.get(name, name) for name in names)}"
    return f"there could be: {', '.join(known)}" if known else "remove it"


def _home(fault: _Fault, key: str) -> str:
    """Perhaps it is indented wrongly. In a list it is not another list's key that was meant."""
    listed = any(isinstance(step, int) for step in fault.pointer)
    homes = [home for home in _homes(SCHEMAS[fault.kind], key) if home[:-1] != fault.pointer]
    places = [where(home) for home in homes if not (listed and 0 in home)]
    return f"perhaps it belongs at {places[0]}; check the indentation" if places else ""


def _homes(schema: Schema, key: str) -> Iterator[Pointer]:
    """Where the schema knows a key of this name; in a list, in its first item."""
    for name, inner in schema.get("properties", {}).items():
        if name == key:
            yield (name,)
        yield from ((name, *home) for home in _homes(inner, key))
        yield from ((name, 0, *home) for home in _homes(inner.get("items", {}), key))


def _speaks_of(kind: str, key: str) -> bool:
    return key in SCHEMAS[kind]["properties"]["spec"]["properties"]


TYPES = {
    "object": "a mapping (lines of `key: value`)",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


BOOLEANS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
"""What older YAML took for true and false, or stands in quotes."""


def _type(fault: _Fault) -> Iterator[Finding]:
    wanted, value = fault.details["types"][0], fault.value
    right = TYPES.get(wanted, wanted)
    if not fault.pointer:
        message = "this file is empty" if value is None else f"a document must be {right}, not {shown(value)}"
        yield Finding((), message, f"begin with apiVersion: reconciler.hosting/v1 and kind: {fault.kind}")
    elif value is None:
        hint = f"write a value, or remove the line. {described(fault.schema)}"
        yield fault.says(f"is empty; it must be {right}", hint)
    else:
        yield fault.says(f"must be {right}, not {shown(value)}", _type_hint(wanted, value, fault))


def _type_hint(wanted: str, value: Any, fault: _Fault) -> str:
    scalar = isinstance(value, str | int | float)
    if "enum" in fault.schema:
        return f"write {' or '.join(map(str, fault.schema['enum']))}"
    if wanted == "string" and scalar:
        fits = "pattern" not in fault.schema or whole(fault.schema["pattern"]).is_valid(shown(value))
        return "put it in quotes, as it stands" if fits else pattern_hint(fault.schema)
    if wanted == "boolean" and isinstance(value, str) and value.lower() in BOOLEANS:
        return f"write {BOOLEANS[value.lower()]}, without quotes"
    if wanted == "array" and scalar and not isinstance(value, bool):
        return f"write [{value}]" if str(value).isalnum() else "write it on a line of its own that begins with -"
    if wanted == "integer" and isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{0,18}", value):
        return f"write {value}, without quotes"
    if wanted == "integer" and isinstance(value, float) and value.is_integer():
        return f"write {int(value)}"
    return described(fault.schema)


def _constant(fault: _Fault) -> Iterator[Finding]:
    right = fault.schema["const"]
    yield fault.says(f"must be {right}, not {shown(fault.value)}", f"write {right}")


def _choice(fault: _Fault) -> Iterator[Finding]:
    options = [str(option) for option in fault.schema["enum"]]
    guess = nearest(str(fault.value), options)
    hint = f"did you mean {guess}?" if guess else described(fault.schema)
    yield fault.says(f"must be {' or '.join(options)}, not {shown(fault.value)}", hint)


def _pattern(fault: _Fault) -> Iterator[Finding]:
    yield fault.says(f"cannot be {shown(fault.value)}", pattern_hint(fault.schema))


def _format(fault: _Fault) -> Iterator[Finding]:
    form = FORMATS[fault.schema["format"]]
    right = canonical(fault.schema["format"], fault.value)
    if right is None:
        yield fault.says(f"must be {form.what}, not {shown(fault.value)}", described(fault.schema))
    else:
        yield fault.says(f"must be written {right}, not {shown(fault.value)}", f"write {right} ({form.rule})")


LIMITS: dict[str, str] = {
    "minimum": "must be at least {limit}, not {value}",
    "maximum": "must be at most {limit}, not {value}",
    "minLength": "must have at least {limit} characters; it has {size}",
    "maxLength": "must have at most {limit} characters; it has {size}",
    "minItems": "must list at least {limit}; it lists {size}",
    "maxItems": "must list at most {limit}; it lists {size}",
    "maxProperties": "must have at most {limit} keys; it has {size}",
}


def _limit(fault: _Fault) -> Iterator[Finding]:
    limit, value = fault.schema[fault.keyword], fault.value
    size = len(value) if isinstance(value, str | list | dict) else 0
    yield fault.says(LIMITS[fault.keyword].format(limit=limit, value=value, size=size), described(fault.schema))


def _repeated(fault: _Fault) -> Iterator[Finding]:
    """Points at each item that was there before."""
    before: dict[str, int] = {}
    for index, item in enumerate(fault.value):
        first = before.setdefault(json.dumps(item, sort_keys=True), index)
        if first != index:
            at = (*fault.pointer, index)
            same = f"{where(at)} is the same as {where((*fault.pointer, first))}"
            yield Finding(at, same, "remove one of the two")
    if len(before) == len(fault.value):  # equal to JSON Schema only: 80 and 80.0
        yield fault.says("has the same thing in it twice", "remove one of the two")


def _either(fault: _Fault) -> Iterator[Finding]:
    """oneOf and anyOf, which our schemas use for groups of keys and for kinds of text."""
    branches = fault.schema[fault.keyword]
    if not isinstance(fault.value, {"string": str, "object": dict}[fault.schema["type"]]):
        return  # that is what the error of `type` beside it says
    if isinstance(fault.value, str):
        yield _either_text(fault, branches)
        return
    groups = ", or ".join(" and ".join(branch.get("required", ["?"])) for branch in branches)
    has = " and ".join(printable(str(key)) for key in fault.value) or "none of them"
    yield fault.says(f"needs either {groups}; it has {has}", described(fault.schema))


def _either_text(fault: _Fault, branches: list[Schema]) -> Finding:
    for branch in branches:
        right = canonical(branch["format"], fault.value) if "format" in branch else None
        if right is not None:
            how = f"({FORMATS[branch['format']].rule})" if "/" in fault.value else "for that address alone"
            return fault.says(f"must be written {right}, not {shown(fault.value)}", f"write {right} {how}")
    words = " or ".join(_branch(branch) for branch in branches)
    return fault.says(f"must be {words}, not {shown(fault.value)}", described(fault.schema))


def _branch(schema: Schema) -> str:
    if "const" in schema:
        return str(schema["const"])
    return FORMATS[schema["format"]].what if "format" in schema else f"a name ({PATTERNS[schema['pattern']]})"


def _other(fault: _Fault) -> Iterator[Finding]:
    yield fault.says(f"is not right: {fault.message[:200]}", described(fault.schema))


WORDS: dict[str, Callable[[_Fault], Iterator[Finding]]] = {
    "required": _missing,
    "additionalProperties": _unknown,
    "type": _type,
    "const": _constant,
    "enum": _choice,
    "pattern": _pattern,
    "format": _format,
    "uniqueItems": _repeated,
    "oneOf": _either,
    "anyOf": _either,
    **dict.fromkeys(LIMITS, _limit),
}
