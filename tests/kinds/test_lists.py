"""How long lists may be: what would be too long for a case. What they mean is in `tests/cases/kinds`."""

from __future__ import annotations

from pathlib import Path

import pytest
import ryaml

from reconciler.load import load
from reconciler.model import ListFile

from .test_kinds import BASE, compiled, lay_out, told


def entries(count: int) -> str:
    """No two of them make a shorter prefix."""
    return "".join(f"2001:db8:{number:x}::1\n" for number in range(count))


def changed(folder: Path, path: str, **fields: object) -> None:
    document = ryaml.loads((folder / path).read_text())
    document["spec"] |= fields
    (folder / path).write_text(ryaml.dumps(document))


def listed(folder: Path, path: str, count: int) -> None:
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text(entries(count))


@pytest.fixture
def company(tmp_path: Path) -> Path:
    return lay_out(BASE, tmp_path)


def problems(company: Path) -> str:
    return "".join(map(told, compiled(company).all_problems))


def test_a_list_has_50000_entries_at_most() -> None:
    most = load("lists/a.txt", entries(50_000).encode())
    assert isinstance(most, ListFile) and len(most.prefixes) == 50_000
    more = load("lists/a.txt", entries(50_001).encode())
    assert isinstance(more, tuple)
    assert "".join(map(told, more)).startswith("lists/a.txt:50001:1: this list has more than 50,000 entries\n")


def test_a_list_too_large_to_be_read() -> None:
    found = load("lists/a.txt", b"#" * 5_000_000)
    assert isinstance(found, tuple)
    assert told(*found).startswith(
        "lists/a.txt:1:1: this list is 5,000,000 bytes long; at most 4,194,304 are accepted\n"
    )


def test_what_one_rule_of_a_policy_names_has_50000_prefixes_at_most(company: Path) -> None:
    listed(company, "lists/one.txt", 30_000)
    listed(company, "lists/other.txt", 20_000)
    changed(company, "policies/edge.yaml", bypass=["one", "other"])
    assert problems(company) == ""
    changed(company, "policies/edge.yaml", bypass=["one", "other", "offices"])
    assert problems(company).startswith(
        "policies/edge.yaml:16:3: 50,002 prefixes are named here together; at most 50,000 are accepted\n"
    )


def second_jail(company: Path, host: str) -> str:
    path = "customers/acme/jails/shop.yaml"
    first = (company / "customers/acme/jails/www.yaml").read_text()
    (company / path).write_text(first.replace("name: www", "name: shop").replace("host: a", f"host: {host}"))
    return path


def test_the_lists_of_a_customers_jails_on_a_host_have_10000_prefixes_at_most_and_hold_it_alone(company: Path) -> None:
    listed(company, "customers/acme/lists/one.txt", 6_000)
    listed(company, "customers/acme/lists/other.txt", 4_001)
    changed(company, "customers/acme/jails/www.yaml", publish=[{"port": 80, "from": ["one"]}])
    changed(company, second_jail(company, "a"), publish=[{"port": 80, "from": ["other"]}])
    assert set(compiled(company).problems) == {"acme"}
    assert problems(company) == (
        "customers/acme/customer.yaml:4:3: the lists of acme's jails on host a come to 10,001 prefixes\n"
        "    at most 10,000 are accepted: name shorter lists, or the same ones together everywhere\n"
    )


def test_a_list_that_several_jails_name_and_what_is_on_another_host_does_not_count(company: Path) -> None:
    listed(company, "customers/acme/lists/one.txt", 6_000)
    listed(company, "customers/acme/lists/other.txt", 6_000)
    changed(company, "customers/acme/jails/www.yaml", publish=[{"port": 80, "from": ["one"]}])
    changed(company, "customers/acme/jails/www.yaml", reach=[{"to": ["one"], "ports": [443]}])
    shop = second_jail(company, "a")
    changed(company, shop, publish=[{"port": 80, "from": ["one"]}])
    assert problems(company) == ""
    reach = [{"to": ["other"], "ports": [443]}]
    changed(company, second_jail(company, "b"), publish=[{"port": 80, "from": ["other"]}], reach=reach)
    assert problems(company) == ""


def test_a_list_of_staffs_by_itself_does_not_count_and_together_with_others_it_does(company: Path) -> None:
    listed(company, "lists/clouds.txt", 30_000)
    listed(company, "customers/acme/lists/one.txt", 1)
    changed(company, "customers/acme/jails/www.yaml", publish=[{"port": 80, "from": ["clouds"]}])
    assert problems(company) == ""
    changed(company, "customers/acme/jails/www.yaml", publish=[{"port": 80, "from": ["clouds", "one"]}])
    assert "on host a come to 30,001 prefixes\n" in problems(company)


def test_rules_that_name_one_list_share_its_prefixes(company: Path) -> None:
    listed(company, "lists/one.txt", 5_000)
    for path in ("customers/acme/jails/www.yaml", "customers/uirig/jails/www.yaml"):
        changed(company, path, reach=[{"to": ["one"], "ports": [443]}])
    parts = [part for host in compiled(company).fleet.hosts.values() for part in host.parts]
    peers = [part.peers for part in parts if len(getattr(part, "peers", ())) == 5_000]
    assert len(peers) == 2 and peers[0] is peers[1]
