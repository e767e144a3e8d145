"""What every complaint is made of: a Finding, and how a name, a value or a place in a document is shown to people.

In: anything that stands in a file, hostile as it may be. Out: short text that cannot move a terminal's cursor, and
the name that was probably meant. Must not know: schemas, YAML, and what is being complained about.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from reconciler.model import Pointer

MOST = 100
"""Problems of one file that are told."""


class Finding(NamedTuple):
    """A Problem before it has a place. `mends`: the key this one was probably meant to be."""

    pointer: Pointer
    message: str
    hint: str = ""
    at_key: bool = False
    mends: Pointer = ()


def nearest(word: str, choices: Iterable[str]) -> str:
    """What was probably meant, or "": for "did you mean …?"."""
    lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word[:300].lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else ""


def where(pointer: Pointer) -> str:
    """spec.publish[0].port"""
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{printable(step)}" for step in pointer)
    return steps.removeprefix(".") or "the document"


def printable(text: str) -> str:
    """Short, and unable to move a terminal's cursor or turn the direction of writing."""
    short = text if len(text) <= 60 else text[:59] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in short)


def shown(value: Any) -> str:
    """What was found, in words."""
    if isinstance(value, str):
        return f'"{printable(value)}"'
    if value is None or isinstance(value, bool):
        return {None: "empty", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, int | float) else "a mapping" if isinstance(value, dict) else "a list"
