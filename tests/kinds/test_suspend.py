"""`suspend: true`, in each of the four documents that may say it."""

from __future__ import annotations

from pathlib import Path

import pytest
import ryaml

from reconciler.model import Fleet
from reconciler.repo import WorkTree
from reconciler.revision import Compiler

from .test_kinds import BASE, lay_out


@pytest.fixture
def company(tmp_path: Path) -> Path:
    return lay_out(BASE, tmp_path / "company")


def suspended(company: Path, path: str) -> Fleet:
    document = ryaml.loads((company / path).read_text())
    document["spec"] = {**(document.get("spec") or {}), "suspend": True}
    (company / path).write_text(ryaml.dumps(document))
    compiled = Compiler().compile(WorkTree(company))
    assert not compiled.problems
    return compiled.fleet


def test_nobody_is_suspended_unless_they_say_so(company: Path) -> None:
    fleet = Compiler().compile(WorkTree(company)).fleet
    assert not any(spec.suspended for spec in fleet.hosts.values())


def test_a_host_is_suspended_alone(company: Path) -> None:
    hosts = suspended(company, "hosts/a.yaml").hosts
    assert {name: spec.suspended for name, spec in hosts.items() if spec.suspended} == {"a": "hosts/a.yaml"}


def test_the_platform_suspends_all_hosts(company: Path) -> None:
    hosts = suspended(company, "platform.yaml").hosts
    assert {spec.suspended for spec in hosts.values()} == {"platform.yaml"}


def test_a_jail_is_suspended_alone(company: Path) -> None:
    path = "customers/acme/jails/www.yaml"
    assert suspended(company, path).suspended == {"acme--www": path}


def test_a_customer_suspends_all_its_jails(company: Path) -> None:
    path = "customers/acme/customer.yaml"
    (company / "customers/acme/jails/shop.yaml").write_text(
        (company / "customers/acme/jails/www.yaml").read_text().replace("name: www", "name: shop")
    )
    assert suspended(company, path).suspended == {"acme--shop": path, "acme--www": path}
