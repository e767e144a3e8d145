"""Staff's changes in waves, from real git repositories: one jail on each of six hosts, and a status branch of bytes.

The hosts themselves are only what is said of them: `well` looks at each as soon as it was given something.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.model import Ahead, Fleet, Report, Waves
from reconciler.render import known, status
from reconciler.repo import Repository
from reconciler.revision import Compiler, Settled, settle
from reconciler.rollout import Verdict, approval_of, unseen
from reconciler.waves import Turns, at_once

from .test_revision import BASE, HEAD, Company, company, jail

__all__ = ["company"]

HOSTS = "abcdef"
PLATFORM = HEAD.format("Platform", "platform") + "  rollout: {{shares: [20, 50], {}}}\n"


def host(name: str, *more: str) -> str:
    text = (BASE / "hosts/a.yaml").read_text().replace("name: a", f"name: {name}").replace("ffff::a", f"ffff::{name}")
    return text + "".join(f"  {line}\n" for line in more)


def blueprint(greeting: str) -> str:
    return (BASE / "blueprints/web.yaml").read_text().replace("default: Hello", f"default: {greeting}")


@dataclass
class Fleetwide:
    """A reconciler of six hosts, which publishes and can be started anew."""

    company: Company
    compiler: Compiler = field(default_factory=Compiler)
    files: dict[str, bytes] = field(default_factory=dict)
    disturbs: bool = True
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = Repository.open(self.company.work)
        self.restart()

    def restart(self) -> None:
        self.turns = Turns(self.repository, self.would_disturb)

    def would_disturb(self, fleet: Fleet, name: str) -> bool:
        self.asked.append(name)
        return self.disturbs

    def step(self, sick: str = "") -> Settled:
        """What is in force now; all hosts are well, as seen at a second look, but one."""

        def verdict(waves: Waves, name: str, has: Ahead) -> Verdict:
            return Verdict("open", "is not well: it burns") if name == sick else Verdict("well")

        settled = self.turns.in_force(self.newest(), self.compiler, self.files, verdict if sick != "all" else unseen)
        self.publish(settled)
        return settled

    def newest(self) -> Settled:
        return settle(self.repository, self.company.git("rev-parse", "HEAD"), self.compiler)

    def publish(self, settled: Settled) -> None:
        assert settled.fleet is not None
        reports = {name: Report(name, "") for name in settled.fleet.hosts}
        about = (settled.head, settled.revision, settled.fleet, settled.problems, reports, settled.rollout)
        for path, data in status.files(status.Standing("production", *about), self.files).items():
            if data is None:
                del self.files[path]
            else:
                self.files[path] = data


@pytest.fixture
def ours(company: Company) -> Fleetwide:
    files: dict[str, str | None] = {f"hosts/{name}.yaml": host(name) for name in HOSTS}
    files |= {f"customers/acme/jails/{n}.yaml": jail(n, host=n) for n in HOSTS} | {"platform.yaml": PLATFORM.format("")}
    company.commit(files | {"customers/acme/jails/www.yaml": None})
    made = Fleetwide(company)
    made.step()
    return made


def greetings(settled: Settled) -> str:
    """Of the jails on each host, by their first letters."""
    assert settled.fleet is not None
    return "".join(dict(spec.jails[0].environment)["GREETING"][0] for spec in settled.fleet.hosts.values())


def change(ours: Fleetwide, greeting: str) -> str:
    return ours.company.commit({"blueprints/web.yaml": blueprint(greeting)})


# ── staff's changes, and customers' ──────────────────────────────────────────────────────────────────────────


def test_what_is_there_from_the_beginning_is_everywhere(ours: Fleetwide) -> None:
    assert greetings(ours.step("all")) == "HHHHHH"


def test_a_blueprints_change_comes_wave_after_wave(ours: Fleetwide) -> None:
    head = change(ours, "Moin")
    assert [greetings(ours.step()) for _ in range(4)] == ["MMHHHH", "MMMHHH", "MMMMMM", "MMMMMM"]
    assert known.rollout(ours.files) == ours.turns.state
    assert ours.turns.state and (ours.turns.state.revision, ours.turns.state.ahead) == (head, {})


def test_it_waits_where_a_host_is_not_well_and_the_status_says_so(ours: Fleetwide) -> None:
    head = change(ours, "Moin")
    assert [greetings(ours.step(sick="a")) for _ in range(3)] == ["MMHHHH"] * 3
    readme = ours.files["README.md"].decode()
    assert f"Staff's documents of commit `{head[:12]}` go in waves" in readme
    assert "2 of 6 hosts have them" in readme
    assert "- a is not well: it burns" in readme
    assert f"approvals/{approval_of(head)}.yaml" in readme


def test_what_customers_change_meanwhile_comes_to_every_host(ours: Fleetwide) -> None:
    change(ours, "Moin")
    ours.step(sick="a")
    ours.company.commit(
        {f"customers/acme/jails/{n}.yaml": jail(n, "parameters: {GREETING: Servus}", host=n) for n in "af"}
    )
    assert greetings(ours.step(sick="a")) == "SMHHHS"
    assert greetings(ours.step()) == "SMMHHS"


def test_who_builds_on_what_is_under_way_waits_for_it_alone(ours: Fleetwide) -> None:
    """uirig has a jail of a blueprint that only the newest documents have."""
    new = {
        "blueprints/new.yaml": blueprint("Moin").replace("name: web", "name: new"),
        "blueprints/web.yaml": blueprint("Moin"),
    }
    ours.company.commit({**new, "customers/uirig/jails/extra.yaml": jail("extra", host="f").replace("web", "new")})
    first = ours.step(sick="a")
    assert first.fleet and [j.id for j in first.fleet.hosts["f"].jails] == ["acme--f"]
    assert first.problems == ()
    last = [ours.step() for _ in range(3)][-1]
    assert last.fleet and [j.id for j in last.fleet.hosts["f"].jails] == ["acme--f", "uirig--extra"]


def test_a_reconciler_that_begins_anew_goes_on_where_it_was(ours: Fleetwide) -> None:
    change(ours, "Moin")
    ours.step(sick="a")
    ours.restart()
    assert greetings(ours.step(sick="a")) == "MMHHHH"
    ours.restart()
    assert greetings(ours.step()) == "MMMHHH"


def test_staff_take_back_what_does_not_go(ours: Fleetwide) -> None:
    change(ours, "Moin")
    ours.step(sick="a")
    ours.company.git("revert", "--no-edit", "HEAD")
    assert greetings(ours.step(sick="a")) == "HHHHHH"
    assert ours.turns.state and not ours.turns.state.target


def test_an_approval_in_a_commit_lets_it_go_to_all(ours: Fleetwide) -> None:
    head = change(ours, "Moin")
    ours.step(sick="a")
    name = approval_of(head)
    until = (datetime.now(UTC) + timedelta(days=2)).date()
    text = HEAD.format("Approval", name) + f"  until: '{until}'\n  reason: It only greets.\n"
    ours.company.commit({f"approvals/{name}.yaml": text})
    assert greetings(ours.step(sick="a")) == "MMMMMM"
    assert ours.turns.state and not ours.turns.state.target


def test_a_rollback_is_remembered_by_the_status_alone(ours: Fleetwide) -> None:
    ours.company.commit({"platform.yaml": PLATFORM.format("rollBack: true")})
    begun = ours.step().rollout
    assert begun and not begun.target
    head = change(ours, "Moin")
    ours.step()
    failed = ours.turns.in_force(ours.newest(), ours.compiler, ours.files, lambda *_: Verdict("failed", "is not well"))
    assert greetings(failed) == "HHHHHH"
    ours.publish(failed)
    ours.restart()
    assert greetings(ours.step()) == "HHHHHH"
    assert ours.turns.state and ours.turns.state.failed == head
    change(ours, "Servus")
    assert greetings(ours.step()) == "SSHHHH"


def test_older_documents_that_git_has_lost_hold_nobody(ours: Fleetwide) -> None:
    """A history that was written anew: there is nothing to go back to."""
    change(ours, "Moin")
    assert ours.turns.state
    ours.turns.state = replace(ours.turns.state, revision="0" * 40)
    assert greetings(ours.step()) == "MMMMMM"


# ── windows ──────────────────────────────────────────────────────────────────────────────────────────────────


def around_now(hours: int) -> str:
    """A window of an hour, which begins so many hours from now."""
    begin = datetime.now(UTC) + timedelta(hours=hours, minutes=-30)
    return f"windows: [{{from: '{begin:%H:%M}', to: '{begin + timedelta(hours=1):%H:%M}'}}]"


def test_what_disturbs_waits_for_the_hosts_window(ours: Fleetwide) -> None:
    ours.company.commit({"hosts/a.yaml": host("a", around_now(6)), "hosts/b.yaml": host("b", around_now(0))})
    ours.step()
    change(ours, "Moin")
    settled = ours.step()
    assert greetings(settled) == "HMHHHH"
    assert settled.rollout and settled.rollout.waits == ("a waits for its window: jails would stop or restart",)
    assert ours.asked == ["a"]


def test_what_disturbs_nobody_does_not_wait(ours: Fleetwide) -> None:
    ours.company.commit({"hosts/a.yaml": host("a", around_now(6))})
    ours.step()
    ours.disturbs = False
    change(ours, "Moin")
    assert greetings(ours.step()) == "MMHHHH"


def test_a_small_fleet_without_windows_is_not_compiled_twice(ours: Fleetwide) -> None:
    few = {n: spec for n, spec in (ours.newest().fleet or Fleet({})).hosts.items() if n in "abc"}
    assert at_once(Fleet(few))
    assert not at_once(Fleet(few, waves=Waves(many=2)))
