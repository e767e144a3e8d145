"""The wheel is what a hosting company installs: it has to work without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sources and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=PROJECT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_carries_every_schema_and_every_script(installed: Path) -> None:
    schemas = {path.name for path in (PROJECT / "schemas").glob("*.json")}
    assert {path.name for path in (installed / "reconciler/schemas").glob("*.json")} == schemas
    scripts = {path.relative_to(PROJECT) for path in (PROJECT / "reconciler").rglob("*.sh")}
    assert scripts == {path.relative_to(installed) for path in (installed / "reconciler").rglob("*.sh")}
    assert scripts


def test_the_wheel_validates_the_sample_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-m", "reconciler", "validate", str(PROJECT / "sample-repo")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "no problems\n"), done.stdout
    code = "import reconciler; print(reconciler.__file__)"
    where = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert where.stdout.startswith(str(installed))
