"""A company for each module of this folder: a lab with two hosts, git, and the real command line.

Root does not log in to host `a`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .company import Company, founded

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    outside = os.environ.get("RECONCILER_LAB") != "1" or os.geteuid() != 0
    skip = pytest.mark.skip(reason="needs real hosts: run tests/lab/enter.sh python -m pytest tests/flow as root")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.lab)
            if outside:
                item.add_marker(skip)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """Founded, with nothing applied yet; the tests of a module are its story, in their order."""
    with founded(tmp_path_factory.mktemp("company"), without_root="a") as company:
        yield company
