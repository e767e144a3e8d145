"""The threat model names code and tests: each of them exists, so that the document cannot rot unseen."""

from __future__ import annotations

import re

import pytest
from names import PROJECT, exists, named, rows

TEXT = (PROJECT / "docs/security.md").read_text()


@pytest.mark.parametrize(("path", "name"), named(TEXT))
def test_what_the_threat_model_names_is_there(path: str, name: str) -> None:
    assert exists(path, name)


def test_every_wall_has_code_and_a_test() -> None:
    walls = rows(TEXT, "where")
    assert len(walls) > 50
    assert not [row[0] for row in walls if not re.search(r"`\S+`", row[1]) or "`tests/" not in row[2]]
