"""Code and tests that a document names, as `path` or `path::name`."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def named(text: str) -> list[tuple[str, str]]:
    return sorted(set(re.findall(r"`((?:reconciler|tests|deploy)/[^`\s:]+)(?:::(\w+))?`", text)))


def exists(path: str, name: str) -> bool:
    place = PROJECT / path
    return place.exists() and (not name or defined(name, place.read_text()))


def defined(name: str, text: str) -> bool:
    """As a function or class of Python, a function of a shell, or a name that is given a value."""
    return bool(re.search(rf"^ *(?:(?:async )?def|class) {name}\b|^{name}\(\)|^{name}\b[^=\n]*=", text, re.MULTILINE))


def rows(text: str, head: str) -> list[list[str]]:
    """Of the tables with three columns whose second one is headed so."""
    found = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    return [row for row in found if row[1] not in (head, "---")]
