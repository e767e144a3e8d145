"""The image, as far as it can be judged without building it: its last stage is what people run."""

from __future__ import annotations

import re
from pathlib import Path

LINES = (Path(__file__).parents[2] / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
STAGE = LINES[max(number for number, line in enumerate(LINES) if line.startswith("FROM")) :]


def test_it_runs_as_a_number_that_is_not_root() -> None:
    users = [line.split()[1] for line in STAGE if line.startswith("USER")]
    made = re.findall(r"--uid (\d+)", "\n".join(STAGE))
    assert [users[-1]] == [f"{uid}:{uid}" for uid in made if int(uid) > 0]


def test_what_it_writes_lies_on_a_volume() -> None:
    assert "VOLUME /var/cache/reconciler" in STAGE
    assert "ENV TMPDIR=/var/cache/reconciler" in STAGE


def test_pip_installs_by_digest_and_leaves_no_cache() -> None:
    installed = [part for line in STAGE if line.startswith("RUN") for part in line.split("&&") if "pip install" in part]
    assert installed
    assert all("--no-cache-dir" in part for part in installed)
    assert all("--require-hashes" in part or "--no-deps /wheels/*.whl" in part for part in installed)
