"""How long it takes from a commit to a Fleet: everything, and after commits that touch one file.

    python -m benchmarks.compile [JAILS ...] [--runs K]

In: numbers of jails (1,000, 10,000 and 100,000 when left out). Out: a Markdown table of medians, with the least and
the greatest of K runs, each in a fresh process; starting Python and importing is not in it. Measured is what the daemon
does: `settle` lists a commit's tree, reads, validates and resolves, and decides what is in force.
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

import ryaml

from benchmarks.documents import COMMITS, generate
from reconciler.load.formats import judge
from reconciler.repo import Repository
from reconciler.revision import Compiler, settle
from reconciler.schemas import SCHEMAS, kind_of

COLUMNS = {
    "cold": "cold, s",
    "memory": "its peak RSS, MB",
    "libraries": "git, ryaml and jsonschema-rs alone, s",
    "single": "after one file, ms",
    "held": "the same with a customer held, ms",
    "blueprint": "after a blueprint, s",
    "parts": "Parts of all hosts, s",
    "most": "peak RSS then, MB",
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
    repository, compiler = Repository.open(folder), Compiler()

    def timed(commit: str, problems: int = 0) -> float:
        begun = time.perf_counter()
        settled = settle(repository, repository.resolve(commit), compiler)
        taken = time.perf_counter() - begun
        assert settled.fleet is not None
        assert len(settled.problems) == problems, settled.problems[:3]
        return taken

    def each(branch: str, problems: int) -> float:
        """The median of its last commits, in milliseconds, after the one before them."""
        before, *single = reversed(repository.history(branch, limit=COMMITS + 1))
        timed(before, problems)
        return statistics.median(timed(commit, problems) for commit in single) * 1000

    figures = {"cold": timed("everything"), "memory": peak()}
    figures |= {"single": each("single", 0), "held": each("held", 1), "blueprint": timed("blueprint")}
    fleet = settle(repository, repository.resolve("blueprint"), compiler).fleet
    begun = time.perf_counter()
    assert fleet is not None
    assert all(spec.parts for spec in fleet.hosts.values())
    figures |= {"parts": time.perf_counter() - begun, "most": peak()}
    return figures | {"libraries": libraries(repository)}


def libraries(repository: Repository) -> float:
    """Seconds for no more than reading every document, parsing it and asking its schema: the floor of a cold start."""
    begun = time.perf_counter()
    tree = repository.tree("everything")
    judges = {kind: judge(kind) for kind in SCHEMAS}
    for path, content in tree.read(path for path in tree.entries if path.endswith(".yaml")):
        kind = kind_of(path)
        assert kind
        assert isinstance(content, bytes)
        assert judges[kind].is_valid(ryaml.loads(content.decode()))
    return time.perf_counter() - begun


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def cell(figures: Iterable[float]) -> str:
    """Median (least–greatest), with three digits."""
    values = sorted(figures)
    return f"{shown(statistics.median(values))} ({shown(values[0])}–{shown(values[-1])})"


def shown(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
