"""How long from a push to the new content: one lab host, the daemon with its file watch, nothing stubbed.

    tests/lab/enter.sh python -m benchmarks.latency [--commits K]

In: a number of commits. Out: a Markdown table of medians, with the least and the greatest. Each commit changes a
parameter of one jail, whose restart is in the time; its page is asked for until it has the new words, then the status
branch until it names the commit. What the daemon did when on the way is taken from its log.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from flow.company import Company, founded, until
from linux.world import ask

ROWS = ("the daemon awake", "the revision in force", "the new content served", "the status pushed")
SHOP, DOCUMENT = "2001:db8:ca00:1::1bf4:cc34", "customers/acme/jails/shop.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, founded(Path(folder)) as company, company.daemon():
        until("the first status", lambda: "7 of 7 jails are ready" in company.status("README.md"), 120)
        runs = [commit(company, number) for number in range(asked.commits)]
    print("| from the push to | median, s | least | greatest |\n| --- | --- | --- | --- |")
    for name, column in zip(ROWS, zip(*runs, strict=True), strict=True):
        print(f"| {name} | {statistics.median(column):.2f} | {min(column):.2f} | {max(column):.2f} |")


def commit(company: Company, number: int) -> tuple[float, ...]:
    """Seconds until each of ROWS; begun when the push has returned."""
    words = f"Commit number {number}"
    text = (company.clone / DOCUMENT).read_text()
    line = next(line for line in text.splitlines() if "GREETING" in line)
    company.change(DOCUMENT, line, f"    GREETING: {words}")
    lines = len(company.log.splitlines())
    head = company.push(words)
    begun = time.time()
    served = when(lambda: words in ask(SHOP, 8080, timeout=0.3))
    told = when(lambda: head in company.status(DOCUMENT))
    time.sleep(0.2)
    marks = logged(company, "woken", lines), logged(company, "revision", lines), served, told
    return tuple(mark - begun for mark in marks)


def logged(company: Company, message: str, after: int) -> float:
    """When the daemon said this first, after so many lines of its log."""
    said = map(json.loads, company.log.splitlines()[after:])
    return next(datetime.fromisoformat(line["time"]).timestamp() for line in said if line["message"] == message)


def when(true: Callable[[], bool], longest: float = 60) -> float:
    """The moment it became true."""
    last = time.time() + longest
    while time.time() < last:
        try:
            if true():
                return time.time()
        except (OSError, http.client.HTTPException):  # the jail restarts
            pass
        time.sleep(0.01)
    sys.exit(f"not within {longest} s")


if __name__ == "__main__":
    main()
