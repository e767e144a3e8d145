"""How many tunnels a jail may have: what would be too many for a case. What they mean is in `tests/cases/kinds`."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_kinds import KINDS, compiled, lay_out, told

TUNNELS = "customers/acme/tunnels"


@pytest.fixture
def company(tmp_path: Path) -> Path:
    return lay_out(KINDS / "a-tunnel-between-two-hosts", tmp_path)


def more(company: Path, count: int) -> None:
    """With ports of their own."""
    text = (company / TUNNELS / "www-db.yaml").read_text()
    for number in range(count):
        other = text.replace("name: www-db", f"name: t{number}").replace("5432", f"{6000 + number}")
        (company / TUNNELS / f"t{number}.yaml").write_text(other.replace("5433", f"{7000 + number}"))


def test_a_jail_has_16_tunnels_at_most_and_the_17th_holds_its_customer_alone(company: Path) -> None:
    more(company, 15)
    assert not compiled(company).problems
    more(company, 16)
    found = compiled(company)
    assert set(found.problems) == {"acme"}
    assert "".join(map(told, found.all_problems)).startswith(
        f"{TUNNELS}/t0.yaml:7:5: jail www has 17 tunnels; at most 16 are accepted\n"
        "    lead several programs through one of them\n"
    )
