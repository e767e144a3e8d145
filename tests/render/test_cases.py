"""What is rendered is what stands in `tests/cases/render/`, to the byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from .cases import CASES

FOLDER = Path(__file__).parent.parent / "cases" / "render"


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    built, folder = CASES[name](), FOLDER / name
    if os.environ.get("UPDATE") == "1":
        shutil.rmtree(folder, ignore_errors=True)
        for path, data in built.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
    expected = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert built.keys() == expected.keys()
    for path, data in built.items():
        assert data.decode() == expected[path].decode()


def test_there_is_no_folder_without_its_case() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(CASES)
