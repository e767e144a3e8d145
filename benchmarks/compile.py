"""How long it takes from a commit to a Fleet: everything, and after a commit that touches one file.

    python -m benchmarks.compile [JAILS ...] [--runs K]

In: numbers of jails (1,000, 10,000 and 100,000 when left out). Out: a Markdown table of medians, with the least and
the greatest of K runs, each in a fresh process. Measured is `Compiler.compile(repository.tree(commit))`, which reads,
validates and resolves; starting Python and importing is not in it.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.documents import COMMITS, generate

COLUMNS = {
    "cold": "cold, s",
    "one": "after one file, ms",
    "blueprint": "after a blueprint, s",
    "rss": "peak RSS, MB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jails", nargs="*", type=int, default=[1_000, 10_000, 100_000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(asked.once)))
        return
    print(f"| jails | {' | '.join(COLUMNS.values())} |\n|{' --- |' * (len(COLUMNS) + 1)}")
    for jails in asked.jails:
        with tempfile.TemporaryDirectory() as folder:
            repository = generate(Path(folder), jails)
            runs = [fresh(repository) for _ in range(asked.runs)]
        print(f"| {jails:,} | {' | '.join(cell(run[column] for run in runs) for column in COLUMNS)} |", flush=True)


def fresh(repository: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compile", "--once", str(repository)]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


def once(folder: Path) -> dict[str, float]:
    from reconciler.repo import Repository
    from reconciler.revision import Compiler

    repository = Repository.open(folder)
    *later, first = repository.history("main", limit=COMMITS + 2)
    compiler = Compiler()

    def timed(commit: str) -> float:
        begun = time.perf_counter()
        compiled = compiler.compile(repository.tree(commit))
        taken = time.perf_counter() - begun
        assert not compiled.problems, compiled.all_problems[:3]
        return taken

    cold = timed(first)
    blueprint, *single = later
    one = statistics.median(timed(commit) for commit in reversed(single)) * 1000
    last = timed(blueprint)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"cold": cold, "one": one, "blueprint": last, "rss": rss}


def cell(figures: Iterable[float]) -> str:
    """Median (least–greatest), with three digits."""
    values = sorted(figures)
    return f"{shown(statistics.median(values))} ({shown(values[0])}–{shown(values[-1])})"


def shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
