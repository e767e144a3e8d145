"""What is said of faults names the tests that let them happen: each of them exists."""

from __future__ import annotations

import pytest
from names import PROJECT, exists, named, rows

TEXT = (PROJECT / "docs/faults.md").read_text()


@pytest.mark.parametrize(("path", "name"), named(TEXT))
def test_what_the_table_of_faults_names_is_there(path: str, name: str) -> None:
    assert exists(path, name)


def test_every_fault_has_a_test() -> None:
    faults = rows(TEXT, "what is seen")
    assert len(faults) > 25
    assert not [row[0] for row in faults if "::test_" not in row[2] and "::Test" not in row[2]]
