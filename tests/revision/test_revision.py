"""Which revision is in force, from real git repositories: one commit after the other, and what `settle` makes of each.

The small company of `tests/cases/kinds/base` is the first commit. Only `git` itself makes the commits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from reconciler.model import Fleet, Lost, Rule
from reconciler.repo import Repository, Tree
from reconciler.revision import Compiler, Settled, Told, settle

BASE = Path(__file__).parent.parent / "cases" / "kinds" / "base"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgSign=false")
HEAD = "apiVersion: reconciler.hosting/v1\nkind: {}\nmetadata:\n  name: {}\nspec:\n"
WWW, SHOP = "customers/acme/jails/www.yaml", "customers/acme/jails/shop.yaml"
THEIRS = "customers/uirig/jails/www.yaml"


def jail(name: str, *lines: str, host: str = "a") -> str:
    return HEAD.format("Jail", name) + "".join(f"  {line}\n" for line in ("blueprint: web", f"host: {host}", *lines))


def customer(name: str, subnet: int, *domains: str) -> str:
    return HEAD.format("Customer", name) + f"  subnet: {subnet}\n  domains: [{', '.join(domains)}]\n"


BROKEN = jail("www", "blueprnt: web")


@dataclass
class Company:
    """A working tree with everything committed."""

    work: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.work), *IDENTITY, *arguments]
        return os.fsdecode(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout).strip()

    def commit(self, files: dict[str, str | None]) -> str:
        """None removes a file."""
        for path, text in files.items():
            place = self.work / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                place.unlink()
            else:
                place.write_text(text)
        return self.commit_all()

    def commit_all(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "change", "--allow-empty")
        return self.git("rev-parse", "HEAD")

    def settle(
        self,
        compiler: Compiler | None = None,
        placed: dict[str, str] | None = None,
        applied: tuple[str, ...] = (),
        lost: Lost | None = None,
        made: dict[str, str] | None = None,
    ) -> Settled:
        repository, head = Repository.open(self.work), self.git("rev-parse", "HEAD")
        return settle(
            repository, head, compiler or Compiler(), Told(placed or {}, lambda customer: applied, lost, made or {})
        )


@pytest.fixture
def company(tmp_path: Path) -> Company:
    shutil.copytree(BASE, tmp_path / "work")
    made = Company(tmp_path / "work")
    made.git("init", "-q", "-b", "main")
    made.commit_all()
    return made


def jails(fleet: Fleet | None) -> set[str]:
    assert fleet is not None
    return {jail.id for host in fleet.hosts.values() for jail in host.jails}


def paths(settled: Settled) -> set[str]:
    return {problem.path for problem in settled.problems}


# ── one customer ─────────────────────────────────────────────────────────────────────────────────────────────


def test_without_problems_the_newest_commit_is_in_force(company: Company) -> None:
    head = company.commit({SHOP: jail("shop")})
    settled = company.settle()
    assert (settled.head, settled.revision.commit, settled.revision.held) == (head, head, {})
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}


def test_a_problem_holds_its_customer_at_the_last_good_commit_while_others_move_on(company: Company) -> None:
    good = company.commit({SHOP: jail("shop")})
    head = company.commit({WWW: BROKEN, "customers/uirig/jails/blog.yaml": jail("blog")})
    settled = company.settle()
    assert settled.revision.mounts == {"": head, "customers/acme": good}
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www", "uirig--blog"}
    assert paths(settled) == {WWW}


def test_a_held_customer_is_held_as_a_whole(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({WWW: BROKEN})
    company.commit({SHOP: jail("shop")})
    settled = company.settle()
    assert settled.revision.held == {"acme": good}
    assert jails(settled.fleet) == {"acme--www", "uirig--www"}


def test_the_last_good_commit_may_be_many_back(company: Company) -> None:
    good = company.commit({SHOP: jail("shop")})
    for number in range(5):
        company.commit({WWW: f"{BROKEN}  # {number}\n"})
    assert company.settle().revision.held == {"acme": good}


def test_whose_good_commit_is_out_of_reach_is_held_at_what_was_applied_last(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.revision.HISTORY", 3)
    good = company.commit({SHOP: jail("shop")})
    for number in range(5):
        company.commit({WWW: f"{BROKEN}  # {number}\n"})
    assert company.settle().revision.held == {"acme": None}
    settled = company.settle(applied=("0" * 40, good))
    assert settled.revision.held == {"acme": good}
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}


def test_what_was_applied_last_and_is_wrong_by_now_is_not_in_force_either(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.revision.HISTORY", 3)
    bad = company.commit({WWW: BROKEN})
    for number in range(5):
        company.commit({WWW: f"{BROKEN}  # {number}\n"})
    assert company.settle(applied=(bad,)).revision.held == {"acme": None}


def test_mending_lets_the_customer_go(company: Company) -> None:
    company.commit({WWW: BROKEN})
    head = company.commit({WWW: jail("www")})
    assert company.settle().revision.mounts == {"": head}


def test_a_held_customer_keeps_what_staff_change_around_it(company: Company) -> None:
    """Staff's documents are those of the newest commit for everybody."""
    company.commit({WWW: BROKEN})
    text = (company.work / "platform.yaml").read_text().replace("64", "32")
    head = company.commit({"platform.yaml": text})
    settled = company.settle()
    assert settled.revision.commit == head
    assert settled.fleet is not None
    assert {jail.limits.processes for jail in settled.fleet.hosts["a"].jails} == {32}


def test_a_new_customer_with_a_problem_is_frozen_and_others_move_on(company: Company) -> None:
    files = {"customers/kiln/customer.yaml": customer("kiln", 3), "customers/kiln/jails/www.yaml": BROKEN}
    head = company.commit({**files, SHOP: jail("shop")})
    settled = company.settle()
    assert settled.revision.mounts == {"": head, "customers/kiln": None}
    assert settled.fleet is not None
    assert settled.fleet.frozen == {"kiln"}
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}


def test_a_customer_whose_good_commits_do_not_fit_staffs_newest_is_frozen(company: Company) -> None:
    text = (company.work / "blueprints/web.yaml").read_text()
    company.commit({"blueprints/web.yaml": text.replace("ports: [80, 443]", "ports: [443]")})
    settled = company.settle()
    assert settled.revision.held == {"acme": None}
    assert jails(settled.fleet) == {"uirig--www"}


def test_a_removed_customer_is_gone_and_not_held(company: Company) -> None:
    shutil.rmtree(company.work / "customers/uirig")
    head = company.commit_all()
    settled = company.settle()
    assert settled.revision.mounts == {"": head}
    assert jails(settled.fleet) == {"acme--www"}


def test_a_folder_that_lost_its_customer_is_held_where_it_had_one(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({"customers/uirig/customer.yaml": None})
    settled = company.settle()
    assert settled.revision.held == {"uirig": good}
    assert jails(settled.fleet) == {"acme--www", "uirig--www"}


# ── staff ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_problem_of_staffs_holds_everything(company: Company) -> None:
    good = company.commit({SHOP: jail("shop")})
    head = company.commit({"hosts/b.yaml": HEAD.format("Host", "b"), "customers/uirig/jails/blog.yaml": jail("blog")})
    settled = company.settle()
    assert (settled.head, settled.revision.mounts) == (head, {"": good})
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}
    assert paths(settled) == {"hosts/b.yaml"}


def test_where_staff_and_a_customer_are_broken_the_mixture_is_older_than_both(company: Company) -> None:
    first = company.git("rev-parse", "HEAD")
    held = company.commit({WWW: BROKEN, "customers/uirig/jails/blog.yaml": jail("blog")})
    company.commit({"hosts/b.yaml": HEAD.format("Host", "b")})
    settled = company.settle()
    assert settled.revision.mounts == {"": held, "customers/acme": first}
    assert jails(settled.fleet) == {"acme--www", "uirig--www", "uirig--blog"}


PAYMENTS = "customers/acme/lists/payments.txt"
REACHING = jail("www", "reach: [{to: [payments], ports: [443]}]")


def reached(fleet: Fleet | None) -> tuple[str, ...]:
    assert fleet is not None
    return next(p.peers for p in fleet.hosts["a"].parts if isinstance(p, Rule) and p.label.endswith("payments"))


def test_a_changed_list_changes_what_names_it(company: Company) -> None:
    compiler = Compiler()
    company.commit({PAYMENTS: "198.51.100.80/28\n", WWW: REACHING})
    assert reached(company.settle(compiler).fleet) == ("198.51.100.80/28",)
    company.commit({PAYMENTS: "198.51.100.96/28\n"})
    assert reached(company.settle(compiler).fleet) == ("198.51.100.96/28",)
    (company.work / PAYMENTS).unlink()
    company.commit({"lists/payments.txt": "198.51.100.112/28\n"})
    assert reached(company.settle(compiler).fleet) == ("198.51.100.112/28",)


def test_a_wrong_line_in_a_customers_list_holds_that_customer(company: Company) -> None:
    good = company.commit({PAYMENTS: "198.51.100.80/28\n", WWW: REACHING})
    head = company.commit({PAYMENTS: "payments.example\n", "customers/uirig/jails/blog.yaml": jail("blog")})
    settled = company.settle()
    assert settled.revision.mounts == {"": head, "customers/acme": good}
    assert reached(settled.fleet) == ("198.51.100.80/28",)
    assert paths(settled) == {PAYMENTS}


def test_a_wrong_line_in_a_list_of_staffs_holds_everything(company: Company) -> None:
    good = company.commit({"lists/attackers.txt": "203.0.113.0/24\n"})
    company.commit({"lists/attackers.txt": "203.0.113.1/24\n", SHOP: jail("shop")})
    settled = company.settle()
    assert settled.revision.mounts == {"": good}
    assert jails(settled.fleet) == {"acme--www", "uirig--www"}


def test_without_any_good_commit_there_is_no_fleet(tmp_path: Path) -> None:
    company = Company(tmp_path)
    company.git("init", "-q", "-b", "main")
    company.commit({"platform.yaml": "a: b\n"})
    company.commit({"platform.yaml": "a: c\n"})
    settled = company.settle()
    assert settled.fleet is None
    assert settled.revision.commit == ""
    assert paths(settled) == {"platform.yaml", "hosts"} or paths(settled) == {"platform.yaml"}


def test_an_emptied_tree_removes_nothing(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.git("rm", "-rq", ".")
    company.commit_all()
    settled = company.settle()
    assert settled.revision.mounts == {"": good}
    assert jails(settled.fleet) == {"acme--www", "uirig--www"}


# ── two who want the same ────────────────────────────────────────────────────────────────────────────────────


def test_who_claims_a_domain_last_is_held_and_its_owner_is_not(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    head = company.commit({SHOP: jail("shop")})
    head = company.commit({"customers/uirig/customer.yaml": customer("uirig", 2, "acme.example")})
    settled = company.settle()
    assert settled.revision.mounts == {"": head, "customers/uirig": good}
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}
    assert paths(settled) == {"customers/acme/customer.yaml", "customers/uirig/customer.yaml"}


def test_the_owner_goes_on_changing_while_the_other_is_held(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({"customers/uirig/customer.yaml": customer("uirig", 2, "acme.example")})
    head = company.commit({SHOP: jail("shop")})
    settled = company.settle()
    assert settled.revision.mounts == {"": head, "customers/uirig": good}
    assert jails(settled.fleet) == {"acme--www", "acme--shop", "uirig--www"}


def test_a_new_customer_with_somebody_elses_domain_is_frozen(company: Company) -> None:
    files = {"customers/kiln/customer.yaml": customer("kiln", 3, "www.acme.example")}
    head = company.commit(files)
    assert company.settle().revision.mounts == {"": head, "customers/kiln": None}


def test_who_want_the_same_in_one_commit_are_both_held(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({WWW: jail("www", "nic: web"), THEIRS: jail("www", "nic: web")})
    assert company.settle().revision.held == {"acme": good, "uirig": good}


def test_three_disputes_each_find_who_came_last(company: Company) -> None:
    first = company.commit({"customers/kiln/customer.yaml": customer("kiln", 3, "kiln.example")})
    company.commit({"customers/uirig/customer.yaml": customer("uirig", 2, "acme.example")})
    second = company.git("rev-parse", "HEAD~1")
    company.commit({"customers/kiln/customer.yaml": customer("kiln", 2, "kiln.example", "shop.acme.example")})
    settled = company.settle()
    assert first == second
    assert settled.revision.held["kiln"] == first
    assert settled.revision.held["uirig"] is not None
    assert "acme" not in settled.revision.held


def test_a_document_that_is_wrong_anyway_holds_nobody_else(company: Company) -> None:
    company.commit({WWW: jail("www", "address: 2001:db8:ca00:1::80", "publish:", "  - port: 80")})
    good = company.git("rev-parse", "HEAD~1")
    company.commit({THEIRS: jail("www", "address: 2001:db8:ca00:1::80")})
    settled = company.settle()
    assert settled.revision.held == {"uirig": good}
    assert paths(settled) == {THEIRS}


def test_a_customer_cannot_hold_staff_by_taking_a_hosts_interface(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    head = company.commit({WWW: jail("www", "nic: eth0")})
    assert company.settle().revision.mounts == {"": head, "customers/acme": good}


# ── too many at once ───────────────────────────────────────────────────────────────────────────────────────────

STAND = {"acme--www": "a", "uirig--www": "a"}
GONE = {"acme--1": "a", "acme--2": "b", "acme--3": "b"}


def vanishing(company: Company, placed: dict[str, str]) -> frozenset[str]:
    fleet = company.settle(placed=placed).fleet
    assert fleet is not None
    return fleet.vanishing


def test_jails_that_go_are_told_when_they_are_too_many_of_the_fleets(company: Company) -> None:
    assert vanishing(company, STAND | GONE) == GONE.keys()


def test_a_few_jails_may_go(company: Company) -> None:
    assert not vanishing(company, STAND)
    assert not vanishing(company, {**STAND, "acme--1": "a", "acme--2": "b"})


def test_jails_of_a_host_that_left_the_repository_are_not_counted(company: Company) -> None:
    assert not vanishing(company, STAND | {**GONE, "acme--3": "gone"})


def test_the_first_of_them_that_goes_does_not_make_the_others_few(company: Company) -> None:
    fleet = company.settle(placed=STAND | GONE).fleet
    assert fleet and fleet.lost == Lost(frozenset(GONE), 5)
    left = {**STAND, "acme--3": "b"}
    later = company.settle(placed=left, lost=fleet.lost).fleet
    assert later and (later.vanishing, later.lost) == ({"acme--3"}, fleet.lost)
    assert not vanishing(company, left)


def test_who_has_a_document_again_is_not_counted_any_more(company: Company) -> None:
    lost = Lost(frozenset(GONE), 5)
    company.commit({f"customers/acme/jails/{name}.yaml": jail(name, host="b") for name in ("j2", "j3")})
    placed = {**STAND, "acme--1": "a", "acme--j2": "b", "acme--j3": "b"}
    fleet = company.settle(placed=placed, lost=Lost(frozenset({"acme--1", "acme--j2", "acme--j3"}), 5)).fleet
    assert fleet and (fleet.vanishing, fleet.lost) == (frozenset(), None)
    gone = company.settle(placed=STAND, lost=lost).fleet
    assert gone and gone.lost is None


# ── suspended jails ──────────────────────────────────────────────────────────────────────────────────────────

STILL = "suspend: true"


def greeting(settled: Settled, id: str) -> str:
    assert settled.fleet is not None
    (found,) = [j for host in settled.fleet.hosts.values() for j in host.jails if j.id == id]
    return dict(found.environment)["GREETING"]


def test_a_suspended_jail_is_wanted_as_it_was_made(company: Company) -> None:
    made = company.commit({SHOP: jail("shop", "parameters: {GREETING: Moin}")})
    company.commit({SHOP: jail("shop", STILL, "parameters: {GREETING: Servus}", "nic: shop_0")})
    settled = company.settle(made={"acme--shop": made})
    assert settled.fleet and settled.fleet.suspended == {"acme--shop": SHOP}
    assert greeting(settled, "acme--shop") == "Moin"
    assert greeting(settled, "acme--www") == "Hello"
    company.commit({SHOP: jail("shop", "parameters: {GREETING: Servus}")})
    assert greeting(company.settle(made={"acme--shop": made}), "acme--shop") == "Servus"


def test_a_suspended_jail_that_was_never_made_is_as_its_document_says(company: Company) -> None:
    company.commit({SHOP: jail("shop", STILL)})
    assert greeting(company.settle(), "acme--shop") == "Hello"
    assert greeting(company.settle(made={"acme--shop": "0" * 40}), "acme--shop") == "Hello"


def test_a_suspended_jail_of_a_held_customer_is_as_it_was_made_too(company: Company) -> None:
    made = company.commit({SHOP: jail("shop", "parameters: {GREETING: Moin}")})
    good = company.commit({SHOP: jail("shop", STILL, "parameters: {GREETING: Servus}")})
    company.commit({WWW: BROKEN})
    settled = company.settle(made={"acme--shop": made})
    assert settled.revision.held == {"acme": good}
    assert settled.fleet and settled.fleet.suspended == {"acme--shop": SHOP}


def test_what_a_jail_was_made_from_may_go_with_nothing_of_today(company: Company) -> None:
    """Its blueprint's parameter is gone: it is not touched, and holds nobody."""
    made = company.commit({SHOP: jail("shop", "parameters: {GREETING: Moin}")})
    plain = (company.work / "blueprints/web.yaml").read_text().partition("  parameters:")[0]
    head = company.commit({"blueprints/web.yaml": plain, SHOP: jail("shop", STILL)})
    settled = company.settle(made={"acme--shop": made})
    assert (settled.revision.mounts, settled.problems) == ({"": head}, ())
    assert settled.fleet and settled.fleet.suspended == {"acme--shop": SHOP}


# ── jails do not move ────────────────────────────────────────────────────────────────────────────────────────


def test_a_jail_whose_host_is_edited_is_held_where_its_data_is(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({WWW: jail("www", host="b")})
    settled = company.settle(placed={"acme--www": "a", "uirig--www": "a"})
    assert settled.revision.held == {"acme": good}
    assert [problem.message for problem in settled.problems] == [
        "www has its data on host a and does not move by editing this"
    ]
    assert [problem.line for problem in settled.problems] == [7]


def test_a_jail_that_stood_nowhere_yet_may_stand_anywhere(company: Company) -> None:
    head = company.commit({WWW: jail("www", host="b")})
    assert company.settle(placed={"uirig--www": "a"}).revision.mounts == {"": head}


def test_a_jail_may_leave_a_host_that_is_gone(company: Company) -> None:
    head = company.commit({WWW: jail("www", host="b"), THEIRS: jail("www", host="b"), "hosts/a.yaml": None})
    settled = company.settle(placed={"acme--www": "a", "uirig--www": "a"})
    assert settled.revision.mounts == {"": head}


# ── what is no file ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_symbolic_link_is_a_problem_of_the_folder_it_lies_in(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    (company.work / SHOP).symlink_to("/etc/passwd")
    company.commit_all()
    settled = company.settle()
    assert settled.revision.held == {"acme": good}
    assert [problem.path for problem in settled.problems] == [SHOP]
    assert "symbolic link" in settled.problems[0].message


def test_a_link_and_a_file_of_the_same_bytes_are_two_things(company: Company) -> None:
    compiler = Compiler()
    text = jail("shop")
    (company.work / SHOP).symlink_to(text)
    company.commit_all()
    assert company.settle(compiler).revision.held
    (company.work / SHOP).unlink()
    company.commit({SHOP: text})
    assert not company.settle(compiler).problems


def test_a_submodule_is_a_problem(company: Company) -> None:
    head = company.git("rev-parse", "HEAD")
    company.git("update-index", "--add", "--cacheinfo", f"160000,{head},customers/acme/jails/shop.yaml")
    company.git("commit", "-qm", "submodule")
    settled = company.settle()
    assert settled.revision.held == {"acme": head}
    assert "submodule" in settled.problems[0].message


def test_a_directory_named_like_a_file_is_a_problem(company: Company) -> None:
    good = company.git("rev-parse", "HEAD")
    company.commit({f"{SHOP}/nothing.yaml": jail("nothing")})
    settled = company.settle()
    assert settled.revision.held == {"acme": good}
    assert [problem.path for problem in settled.problems] == [f"{SHOP}/nothing.yaml"]


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────


class Counting(Repository):
    """Remembers the paths whose contents were asked for."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(repository._git, repository._place)
        self.read: list[str] = []

    def tree(self, commit: str, under: str = "", known: Tree | None = None) -> Tree:
        tree = super().tree(commit, under, known)
        return CountingTree(tree.repository, tree.entries, tree.commit, tree.under)


class CountingTree(Tree):
    __slots__ = ()

    def read(self, paths: Iterable[str]) -> Iterator[tuple[str, object]]:  # type: ignore[override]
        asked = list(paths)
        self.repository.read += asked  # type: ignore[attr-defined]
        return super().read(asked)


def test_a_commit_that_touches_one_file_reads_one_file(company: Company) -> None:
    repository, compiler = Counting(Repository.open(company.work)), Compiler()
    settle(repository, company.git("rev-parse", "HEAD"), compiler)
    assert len(repository.read) == len(set(repository.read)) > 10
    repository.read = []
    settle(repository, company.commit({SHOP: jail("shop")}), compiler)
    assert repository.read == [SHOP]
    repository.read = []
    settle(repository, company.commit({"README.md": "nothing to read\n"}), compiler)
    assert repository.read == []


def test_a_compiler_that_remembers_answers_like_one_that_does_not(company: Company) -> None:
    compiler = Compiler()
    steps: list[dict[str, str | None]] = [
        {SHOP: jail("shop")},
        {WWW: BROKEN},
        {"hosts/b.yaml": HEAD.format("Host", "b")},
        {"hosts/b.yaml": (company.work / "hosts/b.yaml").read_text(), THEIRS: jail("www", "nic: web")},
        {WWW: jail("www", "nic: web")},
        {SHOP: None, WWW: None},
    ]
    for step in steps:
        company.commit(step)
        kept, fresh = company.settle(compiler), company.settle()
        assert (kept.revision, kept.problems) == (fresh.revision, fresh.problems)
        assert parts(kept.fleet) == parts(fresh.fleet)


def parts(fleet: Fleet | None) -> object:
    return fleet and (replace(fleet, hosts={}), dict(fleet.hosts))
