"""What staff approve of, and for how long."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from reconciler.repo import WorkTree
from reconciler.revision import Compiler
from reconciler.waves import valid

from .test_kinds import BASE, lay_out

NAME = "h3f09a1c25de7b84"
APPROVAL = f"""apiVersion: reconciler.hosting/v1
kind: Approval
metadata:
  name: {NAME}
spec:
  until: 2026-12-01
  reason: ACME has moved out
"""


def test_an_approval_is_the_fleets_and_puts_nothing_on_a_host(tmp_path: Path) -> None:
    company = lay_out(BASE, tmp_path / "company")
    before = Compiler().compile(WorkTree(company)).fleet
    (company / "approvals").mkdir()
    (company / f"approvals/{NAME}.yaml").write_text(APPROVAL)
    compiled = Compiler().compile(WorkTree(company))
    assert not compiled.problems
    assert compiled.fleet.approvals == {NAME: "2026-12-01"}
    assert dict(compiled.fleet.hosts) == dict(before.hosts)


@pytest.mark.parametrize(("day", "holds"), [("2026-11-30", True), ("2026-12-01", True), ("2026-12-02", False)])
def test_an_approval_holds_to_the_end_of_its_last_day(day: str, holds: bool) -> None:
    assert valid({NAME: "2026-12-01"}, date.fromisoformat(day)) == ({NAME} if holds else set())
