"""The benchmarks still run: a small one of each that needs no lab, for its table alone. Times are nobody's promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_compile_prints_a_table() -> None:
    command = [sys.executable, "-m", "benchmarks.compile", "200", "--runs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    head, rule, row = done.stdout.splitlines()
    assert head.startswith("| jails | cold, s |")
    assert head.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| 200 |")
