"""A short sample of `make soak`."""

from __future__ import annotations

from pathlib import Path

from flow.soak import soak


def test_a_few_rounds_of_whatever_may_happen_end_right(tmp_path: Path) -> None:
    events: list[str] = []
    soak(tmp_path, rounds=2, seed=2, tell=events.append)
    assert len(events) == 2
