"""Whether a row of figures is flat.

In: figures by name with the seconds they are from. Out: of each measure how it began and ended, its slope, and whether
that is below its bound. The slope is Theil and Sen's, the median of the slopes between any two samples: a quarter of
them may be anything (a commit under way, two hundred clients for ten seconds) and it stays what it is. It is taken over
the second half, for caches fill and pools grow to their size in the first; of the process's pages over the least of
each two minutes, for a heap keeps what one webhook of 3 MB took until it happens to have room at its end. Pure: no
clock, no processes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

Sample = Mapping[str, float]
"""Figures by name; "seconds" is when."""
Point = tuple[float, float]
BOUNDS = {
    "rss": 8.0,
    "uss": 8.0,
    "anonymous": 8.0,
    "native": 2.0,
    "blocks": 20_000.0,
    "frozen": 20_000.0,
    "files": 2.0,
    "threads": 2.0,
    "tasks": 2.0,
    "children": 2.0,
    "zombies": 0.0,
    "cache, archives": 1.0,
    "cache, rest": 1.0,
    "host a, processes": 2.0,
    "host b, processes": 2.0,
    "host a, overdue": 0.0,
    "host b, overdue": 0.0,
    "host a, sessions": 2.0,
    "host b, sessions": 2.0,
    "host a, zombies": 2.0,
    "host b, zombies": 2.0,
    "host a, incoming": 0.0,
    "host b, incoming": 0.0,
    "host a, temporary": 0.0,
    "host b, temporary": 0.0,
    "host a, half-written": 0.0,
    "host b, half-written": 0.0,
}
"""How much more an hour is still flat. What is in use is held to less than the pages it lies in: README.md says why."""
PAGES = ("rss", "uss", "anonymous")
EBB = 120.0
"""Seconds."""
BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    first: float
    """Median of the first tenth, as `last` is of the last one."""
    last: float
    most: float
    slope: float
    """An hour, in the second half."""
    course: str
    flat: bool


def judged(samples: Sequence[Sample]) -> list[Row]:
    return [row(name, [(s["seconds"], s[name]) for s in samples if name in s], bound) for name, bound in BOUNDS.items()]


def row(name: str, points: Sequence[Point], bound: float) -> Row:
    values = [value for _, value in points]
    tenth = max(1, len(values) // 10)
    later = points[len(points) // 2 :]
    steep = 3600 * slope(ebbs(later) if name in PAGES else later)
    first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
    return Row(name, first, last, max(values), steep, course(values), steep <= bound)


def ebbs(points: Iterable[Point]) -> list[Point]:
    """The least of each stretch of time, when it was."""
    least: dict[int, Point] = {}
    for point in points:
        stretch = int(point[0] // EBB)
        least[stretch] = min(least.get(stretch, point), point, key=lambda p: p[1])
    return list(least.values())


def slope(points: Iterable[Point]) -> float:
    """Theil and Sen's; 0 of fewer than two points."""
    steps = [(after - before) / (then - now) for (now, before), (then, after) in combinations(points, 2) if then != now]
    return statistics.median(steps) if steps else 0.0


def course(values: Sequence[float], width: int = 30) -> str:
    """Medians of as many parts as there are columns, as bars between the least and the greatest of them."""
    parts = [values[len(values) * n // width : len(values) * (n + 1) // width] for n in range(width)]
    medians = [statistics.median(part) for part in parts if part]
    least, most = min(medians), max(medians)
    scale = (len(BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(BARS[round((median - least) * scale)] for median in medians)
