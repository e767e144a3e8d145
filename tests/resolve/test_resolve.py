"""What a second call builds on, and who is told when two want the same. What documents mean is in `tests/kinds`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from reconciler.load import load
from reconciler.model import Document, Problem
from reconciler.platforms import PLATFORMS
from reconciler.repo import WorkTree
from reconciler.resolve import Folder, Resolved, resolve
from reconciler.schemas import customer_of

BASE = Path(__file__).parent.parent / "cases" / "kinds" / "base"


def folders(changes: dict[str, str] | None = None) -> dict[str, Folder]:
    """The small company, with some files changed."""
    tree = WorkTree(BASE)
    files = {path: bytes(content) for path, content in tree.read(tree.entries) if isinstance(content, bytes)}
    files |= {path: text.encode() for path, text in (changes or {}).items()}
    documents: dict[str, list[Document]] = {}
    for path, data in sorted(files.items()):
        document = load(path, data)
        assert isinstance(document, Document), document
        documents.setdefault(customer_of(path), []).append(document)
    return {customer: Folder(customer, tuple(found)) for customer, found in documents.items()}


def jail(name: str, *lines: str) -> str:
    head = f"apiVersion: reconciler.hosting/v1\nkind: Jail\nmetadata:\n  name: {name}\nspec:\n"
    return head + "".join(f"  {line}\n" for line in ("blueprint: web", "host: a", *lines))


def told(resolved: Resolved) -> dict[str, set[str]]:
    """Customer → the documents that have a Problem."""
    return {customer: {problem.path for problem in problems} for customer, problems in resolved.problems.items()}


def ids(resolved: Resolved) -> list[str]:
    return [jail.id for host in resolved.fleet.hosts.values() for jail in host.jails]


def test_what_did_not_change_is_not_worked_out_again() -> None:
    before = folders()
    first = resolve(before.values())
    acme = folders({"customers/acme/jails/shop.yaml": jail("shop")})["acme"]
    second = resolve({**before, "acme": acme}.values(), first)
    assert second.households["uirig"] is first.households["uirig"]
    assert second.households[""] is first.households[""]
    assert ids(second) == ["acme--shop", "acme--www", "uirig--www"]


def test_what_staff_change_is_worked_out_again_for_everybody() -> None:
    before = folders()
    first = resolve(before.values())
    staff = folders()[""]
    second = resolve({**before, "": staff}.values(), first)
    assert second.households["uirig"] is not first.households["uirig"]
    assert [*second.fleet.hosts.values()] == [*first.fleet.hosts.values()]


def test_the_order_of_folders_means_nothing() -> None:
    found = list(folders().values())
    one, other = resolve(found), resolve(reversed(found))
    assert dict(one.fleet.hosts) == dict(other.fleet.hosts)
    assert ids(one) == sorted(ids(one))


def test_frozen_customers_are_told_to_the_fleet() -> None:
    assert resolve(folders().values(), frozen=frozenset({"kiln"})).fleet.frozen == {"kiln"}


# ── two who want the same ────────────────────────────────────────────────────────────────────────────────────

WWW, THEIRS = "customers/acme/jails/www.yaml", "customers/uirig/jails/www.yaml"


def test_two_customers_who_want_one_interface_are_both_told() -> None:
    found = resolve(folders({WWW: jail("www", "nic: web_a"), THEIRS: jail("www", "nic: web_a")}).values())
    assert told(found) == {"acme": {WWW}, "uirig": {THEIRS}}


def test_a_customer_who_wants_what_is_the_hosts_is_told_alone() -> None:
    assert told(resolve(folders({WWW: jail("www", "nic: jails0")}).values())) == {"acme": {WWW}}


def test_who_has_another_problem_takes_nothing_from_anybody() -> None:
    asked = folders({WWW: jail("www", "nic: web_a"), THEIRS: jail("www", "nic: web_a", "switch: none")})
    found = resolve(asked.values())
    assert told(found) == {"uirig": {THEIRS}}


def test_problems_of_loading_count_too() -> None:
    asked = folders({WWW: jail("www", "nic: web_a"), THEIRS: jail("www", "nic: web_a")})
    broken = Folder("uirig", asked["uirig"].documents, (Problem("customers/uirig/jails/x.yaml", 1, 1, "not YAML"),))
    assert set(told(resolve([asked[""], asked["acme"], broken]))) == {"uirig"}


def test_two_jails_of_one_customer_are_both_told() -> None:
    shop = "customers/acme/jails/shop.yaml"
    found = resolve(folders({WWW: jail("www", "nic: web_a"), shop: jail("shop", "nic: web_a")}).values())
    assert told(found) == {"acme": {WWW, shop}}


def all_problems(resolved: Resolved) -> Iterable[str]:
    return (problem.message for problems in resolved.problems.values() for problem in problems)


def test_of_three_who_want_one_thing_each_hears_of_the_other_two() -> None:
    kiln = "apiVersion: reconciler.hosting/v1\nkind: Customer\nmetadata:\n  name: kiln\nspec:\n  subnet: 3\n"
    third = "customers/kiln/jails/www.yaml"
    asked = {"customers/kiln/customer.yaml": kiln, **dict.fromkeys((WWW, THEIRS, third), jail("www", "nic: web_a"))}
    assert sorted(all_problems(resolve(folders(asked).values()))) == [
        f"interface web_a on host a is taken by {WWW}, {third}",
        f"interface web_a on host a is taken by {WWW}, {THEIRS}",
        f"interface web_a on host a is taken by {third}, {THEIRS}",
    ]


def test_who_logs_in_is_root_unless_the_host_says_who() -> None:
    """A Host's `ssh.user` is nothing of what the host must be: it is how we come there."""
    path = "hosts/a.yaml"
    text = (BASE / path).read_text()
    account = text.replace("  ssh:\n", "  ssh:\n    user: reconciler\n")
    before, after = (resolve(folders({path: text}).values()).fleet.hosts["a"] for text in (text, account))
    assert (before.ssh.user, after.ssh.user) == ("root", "reconciler")
    assert PLATFORMS[before.platform].lower(before) == PLATFORMS[after.platform].lower(after)
