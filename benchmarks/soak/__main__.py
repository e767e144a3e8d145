"""`make soak`: whether the daemon stays as it is while everything happens that it has to live through.

    tests/lab/enter.sh python -m benchmarks.soak [--minutes N] [--seed S] [--only EVENT...] [--csv FILE]

In: minutes and a seed. Out: a Markdown table of what the daemon's process and its hosts had, every few seconds, and
exit status 1 when something of it grew; or the first round that did not come right. One daemon for the whole time: the
events are those of `flow.soak` that do not end it.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from benchmarks.soak.figures import Figures, of_disk, of_host, of_metrics, of_process
from benchmarks.soak.verdict import judged
from flow.company import Company, founded, web
from flow.soak import LIVED_THROUGH, Soak

COMMAND = (sys.executable, "-m", "benchmarks.soak.daemon")
EVERY = 5.0
"""Seconds between two samples."""
HOSTS_EVERY = 6
"""Samples of the process between two of the disk and the hosts."""


class Sampler(threading.Thread):
    """Looks at everything until it is told to stop; beside the rounds, so that it sees what is in between."""

    def __init__(self, company: Company, pid: int) -> None:
        super().__init__(daemon=True)
        self.company, self.pid = company, pid
        self.samples: list[Figures] = []
        self.ending = threading.Event()
        self.failure = ""

    def run(self) -> None:
        begun = time.monotonic()
        try:
            while not self.ending.is_set():
                self.samples.append({"seconds": time.monotonic() - begun, **self.look(len(self.samples))})
                self.ending.wait(EVERY - (time.monotonic() - begun) % EVERY)
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def look(self, number: int) -> Figures:
        figures = of_process(self.pid, Path(self.company.environment["RECONCILER_COUNTS"]))
        if number % HOSTS_EVERY == 0:
            figures |= of_disk(self.company.cache) | of_metrics(web("/metrics")[1])
            for host in self.company.hosts.values():
                figures |= of_host(host)
        return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=LIVED_THROUGH, default=LIVED_THROUGH, help="to find who it is")
    parser.add_argument("--csv", type=Path, help="all samples")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, founded(Path(folder)) as company:
        company.environment["RECONCILER_COUNTS"] = f"{folder}/counts"
        try:
            happened, samples = soaked(Soak(company, asked.seed, COMMAND), asked.minutes, asked.only)
        except (AssertionError, subprocess.SubprocessError) as error:
            sys.exit(f"{error}\n{company.log[-8000:]}")
        commits, log = len(company.status_commits()), company.log
    if asked.csv:
        write(asked.csv, samples)
    sys.exit(told(happened, samples, commits, log))


def soaked(run: Soak, minutes: float, events: Sequence[str]) -> tuple[Counter[str], list[Figures]]:
    """What happened how often, and all samples."""
    happened: Counter[str] = Counter()
    with run.running:
        run.begin()
        sampler = Sampler(run.company, run.daemon.pid)
        sampler.start()
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            begun = time.monotonic()
            event = run.round(events)
            happened[event] += 1
            print(f"round {run.count}: {event}, {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
            assert run.daemon.poll() is None, "the daemon ended"
            assert not sampler.failure, sampler.failure
        sampler.ending.set()
        sampler.join()
    return happened, sampler.samples


def told(happened: Counter[str], samples: list[Figures], commits: int, log: str) -> int:
    rows = judged(samples)
    print(f"{samples[-1]['seconds'] / 60:.0f} minutes, {happened.total()} rounds, {len(samples)} samples:")
    print(", ".join(f"{count} {event}" for event, count in happened.most_common()), end="\n\n")
    print("| | at first | at last | most | an hour | | |\n| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        numbers = " | ".join(f"{number:,.1f}" for number in (row.first, row.last, row.most, row.slope))
        print(f"| {row.name} | {numbers} | {row.course} | {'flat' if row.flat else '**grows**'} |")
    disk = [sample for sample in samples if "cache, git" in sample]
    passes, changes = (max(sample.get(name, 0) for sample in samples) for name in ("passes", "changes"))
    print(f"\n{passes:.0f} passes, {changes:.0f} changes, {commits} status commits; ", end="")
    print(f"{samples[-1]['cpu'] - samples[0]['cpu']:.0f} s of a processor.")
    print(f"Git's copy: {disk[0]['cache, git']:.1f} MiB at first, {disk[-1]['cache, git']:.1f} at last, ", end="")
    print(f"{max(sample['cache, objects'] for sample in disk):.0f} loose objects at most.")
    mistakes = log.count('"traceback"')
    print(f"Mistakes of our own in the log: {mistakes}.")
    return 0 if all(row.flat for row in rows) and not mistakes else 1


def write(file: Path, samples: list[Figures]) -> None:
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    with file.open("w", newline="") as out:
        table = csv.DictWriter(out, names)
        table.writeheader()
        table.writerows({name: f"{value:.6g}" for name, value in sample.items()} for sample in samples)


if __name__ == "__main__":
    main()
