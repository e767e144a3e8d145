"""A few rounds of whatever may happen; with RECONCILER_KILLS=all (`make faults`) a hundred, of all there is."""

from __future__ import annotations

import os
from pathlib import Path

from flow.soak import DEADLY, LIVED_THROUGH, SHORT, soak

ALL = os.environ.get("RECONCILER_KILLS") == "all"


def test_rounds_of_whatever_may_happen_end_right(tmp_path: Path) -> None:
    told: list[str] = []
    rounds, events = (100, (*LIVED_THROUGH, *DEADLY)) if ALL else (2, SHORT)
    soak(tmp_path, rounds, seed=2, tell=told.append, events=events)
    assert len(told) == rounds
