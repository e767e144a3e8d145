"""The schemas of the kinds, and which kind lives at which path.

In: the JSON files beside this module (an installed package) or in the checkout's `schemas/`; they are read once, when
first asked for. Out: constants and two questions about a path. This is package data, not the repository of desired
state: nothing here looks at a document, and adding a kind adds a JSON file and no line here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

_HERE = Path(__file__).parent


@cache
def _read() -> dict[str, Schema]:
    packed = _HERE / "schemas"
    folder = packed if packed.is_dir() else _HERE.parent / "schemas"
    found = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    return {schema["title"]: schema for schema in found}


class _Lazy(Mapping[str, Schema]):
    """Importing this module reads no file; asking for a schema does."""

    def __getitem__(self, kind: str) -> Schema:
        return _read()[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(_read())

    def __len__(self) -> int:
        return len(_read())


SCHEMAS: Mapping[str, Schema] = _Lazy()
"""Kind → its JSON Schema."""


@cache
def places() -> Mapping[str, str]:
    """Kind → the glob of the paths where its documents live; a `*` is part of one path segment."""
    return {kind: schema["x-path"] for kind, schema in SCHEMAS.items()}


@cache
def _paths() -> re.Pattern[str]:
    """All globs as one expression, with a group for each kind: one match answers for all of them."""
    globs = {kind: re.escape(glob).replace(r"\*", r"[^/]+") for kind, glob in places().items()}
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in globs.items()))


def kind_of(path: str) -> str | None:
    """The kind of the documents at this path, None where none lives."""
    match = _paths().fullmatch(path)
    return match.lastgroup if match else None


def customer_of(path: str) -> str:
    """The customer whose folder this path lies in, "" for staff's files."""
    folder, _, rest = path.partition("/")
    customer, slash, _ = rest.partition("/")
    return customer if folder == "customers" and slash else ""
