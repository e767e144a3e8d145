"""The benchmarks still run: a small one of each that needs no lab, for its table alone. Times are nobody's promise, but
what calls a figure flat has to be right.
"""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.verdict import course, row, slope

ROOT = Path(__file__).parents[2]


def test_compile_prints_a_table() -> None:
    command = [sys.executable, "-m", "benchmarks.compile", "200", "--runs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, rule, row = done.stdout.splitlines()
    assert head.startswith("| jails | cold, s |")
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| 200 |")


@pytest.mark.parametrize(("an_hour", "flat"), [(0.0, True), (1.5, True), (2.5, False), (60.0, False), (-60.0, True)])
def test_a_slope_is_seen_through_what_comes_and_goes(an_hour: float, flat: bool) -> None:
    dice = random.Random(1)
    points = [
        (t, 80 + an_hour * t / 3600 + (dice.uniform(0, 50) if dice.random() < 0.2 else 0)) for t in range(0, 1800, 5)
    ]
    found = row("native", points, 2.0)
    assert found.slope == pytest.approx(an_hour, abs=0.3)
    assert found.flat is flat


def test_what_ends_after_the_first_half_is_flat() -> None:
    assert row("threads", [(t, min(t, 900)) for t in range(0, 1800, 5)], 0.0).flat


def test_pages_that_are_kept_for_a_while_are_no_growth() -> None:
    points = [(t, 80 + 5 * (t % 300 > 100) * (t > 1000)) for t in range(0, 1800, 5)]
    assert row("rss", points, 2.0).flat


def test_too_few_samples_have_no_slope_and_a_course() -> None:
    assert slope([(1.0, 5.0)]) == 0
    assert course([1.0, 2.0, 2.0], 3) == "▁██"
