"""What platform.yaml says of the whole fleet: rollouts, and the windows of hosts that have none of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.model import Fleet, Waves, Window
from reconciler.repo import WorkTree
from reconciler.revision import Compiler

from .test_kinds import BASE, lay_out

EVERY_DAY, WEEKEND = frozenset(range(7)), frozenset({5, 6})


def fleet(folder: Path, platform: str = "", host: str = "") -> Fleet:
    company = lay_out(BASE, folder / "company")
    for path, text in (("platform.yaml", platform), ("hosts/a.yaml", host)):
        (company / path).write_text((company / path).read_text().rstrip() + f"\n{text}\n")
    compiled = Compiler().compile(WorkTree(company))
    assert not compiled.problems
    return compiled.fleet


def test_a_rollout_has_defaults(tmp_path: Path) -> None:
    found = fleet(tmp_path)
    assert found.waves == Waves()
    assert not any(spec.canary or spec.windows for spec in found.hosts.values())


def test_a_rollout_is_as_it_is_said(tmp_path: Path) -> None:
    said = "  rollout: {many: 10, shares: [5], pause: 0, deadline: 60, rollBack: true}"
    found = fleet(tmp_path, said, "  canary: true")
    assert found.waves == Waves(10, (5,), 0, 60, True)
    assert [name for name, spec in found.hosts.items() if spec.canary] == ["a"]


def test_a_host_has_its_own_windows_or_the_platforms(tmp_path: Path) -> None:
    platform = "  windows: [{days: [sat, sun], from: 02:00, to: 05:00}]"
    found = fleet(tmp_path, platform, "  windows: [{from: '23:30', to: '00:30'}]").hosts
    assert found["a"].windows == (Window(EVERY_DAY, 23 * 60 + 30, 30),)
    assert found["b"].windows == (Window(WEEKEND, 120, 300),)


@pytest.mark.parametrize(
    ("day", "minute", "holds"),
    [(5, 119, False), (5, 120, True), (5, 299, True), (5, 300, False), (4, 200, False), (6, 200, True)],
)
def test_a_window_is_from_one_minute_to_before_another(day: int, minute: int, holds: bool) -> None:
    assert Window(WEEKEND, 120, 300).holds(day, minute) is holds


@pytest.mark.parametrize(
    ("day", "minute", "holds"),
    [
        (6, 23 * 60 + 29, False),
        (6, 23 * 60 + 30, True),
        (0, 29, True),
        (0, 30, False),
        (6, 10, False),
        (0, 1430, False),
    ],
)
def test_a_window_over_midnight_is_of_the_day_on_which_it_begins(day: int, minute: int, holds: bool) -> None:
    assert Window(frozenset({6}), 23 * 60 + 30, 30).holds(day, minute) is holds
