"""The threat model names code and tests: each of them exists, so that the document cannot rot unseen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:reconciler|tests|deploy)/[^`\s:]+)(?:::(\w+))?`", TEXT)))


def defined(name: str, text: str) -> bool:
    """As a function or class of Python, a function of a shell, or a name that is given a value."""
    return bool(re.search(rf"^ *(?:(?:async )?def|class) {name}\b|^{name}\(\)|^{name}\b[^=\n]*=", text, re.MULTILINE))


@pytest.mark.parametrize(("path", "name"), NAMED, ids="::".join)
def test_what_the_threat_model_names_is_there(path: str, name: str) -> None:
    place = PROJECT / path
    assert place.exists()
    assert not name or defined(name, place.read_text())


def test_every_wall_has_code_and_a_test() -> None:
    rows = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| ") and line.count(" | ") == 2]
    walls = [row for row in rows if row[1] != "where" and row[1] != "---"]
    assert len(walls) > 50
    assert not [row[0] for row in walls if not re.search(r"`\S+`", row[1]) or "`tests/" not in row[2]]
