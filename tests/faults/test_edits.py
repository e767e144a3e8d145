"""Whatever people write into the sample repository, and whatever goes wrong meanwhile, the hosts come right in the end,
and no data that a jail ever had is lost.

In: the sample's documents, edited at random; two pretended hosts, on which applies are killed, steps fail, archives
cannot be had, hands break things, the network cuts itself off, and the power goes. Out: after all faults have ended, a
few passes leave nothing to do. RECONCILER_KILLS=all (`make faults`) makes a thousand edits.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import ryaml
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from fake import FakeHost, drift
from reconciler import age
from reconciler.model import Circumstances, File, Fleet, Manifest, Report
from reconciler.platforms import PLATFORMS
from reconciler.reconcile import Pass, reconcile
from reconciler.repo import WorkTree
from reconciler.retention import retained
from reconciler.revision import Compiler

PROJECT = Path(__file__).parents[2]
TODAY = date(2026, 1, 31)
JAILS = {
    "customers/acme/jails/www.yaml": "nginx",
    "customers/acme/jails/shop.yaml": "app",
    "customers/kiln/jails/www.yaml": "nginx",
    "customers/uirig/jails/blog.yaml": "nginx",
    "customers/uirig/jails/www.yaml": "nginx",
}
"""Path → blueprint."""
SHOP = "customers/acme/jails/shop.yaml"
ENOUGH = 12
"""Passes in which everything has to come right once nothing goes wrong any more."""
Spec = dict[str, Any]


def toggled(spec: Spec, key: str, value: object) -> None:
    """Set when it is not there, and gone when it is."""
    if spec.pop(key, None) is None:
        spec[key] = value


EDITS: dict[str, tuple[tuple[str, ...], Callable[[Spec, random.Random], object]]] = {
    "a restart": (tuple(JAILS), lambda s, dice: s.update(restart=s.get("restart", 0) + 1)),
    "a memory limit": (tuple(JAILS), lambda s, dice: s.update(limits={"memory": f"{dice.randint(32, 120)}Mi"})),
    "a limit of processes": (tuple(JAILS), lambda s, dice: toggled(s, "limits", {"processes": 99})),

    "what is published": (tuple(JAILS), lambda s, dice: s.update(publish=[])),
    "an interface's name": (tuple(JAILS), lambda s, dice: toggled(s, "nic", f"own_{dice.randint(0, 9)}")),
    "a release": (("customers/acme/jails/www.yaml",), lambda s, dice: s.pop("release", None)),
    "a greeting": ((SHOP,), lambda s, dice: s.setdefault("parameters", {}).update(GREETING=str(dice.random()))),
    "a cable": ((SHOP,), lambda s, dice: s.update(links=[], parameters={"DATABASE_HOST": "db"})),
    "an address": (("customers/acme/jails/www.yaml",), lambda s, dice: s.update(
        address=f"2001:db8:ca00:1::{dice.randint(0x80, 0x90):x}")),
    "who runs it": (("blueprints/nginx.yaml",), lambda s, dice: toggled(s, "runAs", "root")),
    "a policy": (("policies/edge.yaml",), lambda s, dice: s["in"].pop() if s.get("in") else s.update({"in": []})),
    "a sysctl": (("hosts/a.yaml",), lambda s, dice: toggled(s, "sysctls", {"vm.overcommit_memory": "2"})),
    "no policy": (("hosts/b.yaml",), lambda s, dice: toggled(s, "policy", "edge")),
    "a host suspended": (("hosts/a.yaml", "hosts/b.yaml"), lambda s, dice: toggled(s, "suspend", True)),
}  # fmt: skip
"""What is edited: in which documents, and how."""


class Life(RuleBasedStateMachine):
    """A small company's days."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="reconciler-edits-"))
        self.repo, keys = self.folder / "repo", self.folder / "keys"
        shutil.copytree(PROJECT / "sample-repo", self.repo)
        keys.mkdir(mode=0o700)
        for key in (PROJECT / "tests/lab/keys").iterdir():
            shutil.copy(key, keys)
        self.identities, self.compiler = age.Identities(keys), Compiler()
        self.hosts = {"a": FakeHost(), "b": FakeHost()}
        self.precious: dict[str, dict[str, bytes]] = {"a": {}, "b": {}}
        """Host → path → what a jail wrote there."""
        self.fleet = self.compiled()
        assert self.fleet is not None

    # ── what people do ───────────────────────────────────────────────────────────────────────────────────────

    @rule(what=st.sampled_from(sorted(EDITS)), seed=st.integers(0, 1000))
    def edit(self, what: str, seed: int) -> None:
        dice = random.Random(seed)
        paths, change = EDITS[what]
        path = dice.choice(paths)
        if (self.repo / path).exists():
            document = ryaml.loads((self.repo / path).read_text())
            change(document["spec"], dice)
            self.commit({path: ryaml.dumps(document)})

    @rule(path=st.sampled_from(sorted(JAILS)))
    def add_or_remove(self, path: str) -> None:
        """With its site, which would have nobody behind it."""
        site = path.replace("/jails/", "/sites/")
        there, sample = (self.repo / path).exists(), PROJECT / "sample-repo"
        self.commit({p: None if there else (sample / p).read_text() for p in (path, site)})

    def commit(self, files: dict[str, str | None]) -> None:
        """As a pull request: what has a Problem is not merged."""
        before = {p: (self.repo / p).read_text() if (self.repo / p).exists() else None for p in files}
        self.write(files)
        fleet = self.compiled()
        if fleet is None:
            self.write(before)
        else:
            self.fleet = fleet

    def write(self, files: dict[str, str | None]) -> None:
        for path, text in files.items():
            if text is None:
                (self.repo / path).unlink(missing_ok=True)
            else:
                (self.repo / path).write_text(text)

    def compiled(self) -> Fleet | None:
        compiled = self.compiler.compile(WorkTree(self.repo))
        return None if compiled.all_problems else compiled.fleet

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(name=st.sampled_from("ab"))
    def a_pass(self, name: str) -> None:
        self.reconcile(name)

    @rule(name=st.sampled_from("ab"), fuse=st.integers(0, 60))
    def a_pass_that_is_killed(self, name: str, fuse: int) -> None:
        self.hosts[name].fuse = fuse
        self.reconcile(name)
        self.hosts[name].fuse = None

    @rule(name=st.sampled_from("ab"), number=st.integers(0, 60))
    def a_pass_of_which_a_step_fails(self, name: str, number: int) -> None:
        host, steps = self.hosts[name], iter(range(1000))
        host.breaks = lambda change, step: "disk full" if next(steps, 0) == number else ""
        self.reconcile(name)
        host.breaks = lambda change, step: ""

    @rule(name=st.sampled_from("ab"))
    def a_pass_without_archives(self, name: str) -> None:
        manifest = self.manifest(name)
        self.hosts[name].unavailable = {r.source.digest for r in manifest.resources if r.source}
        self.reconcile(name)
        self.hosts[name].unavailable = set()

    @rule(name=st.sampled_from("ab"))
    def a_pass_that_nobody_comes_back_to_confirm(self, name: str) -> None:
        host = self.hosts[name]
        host.goes_back, host.cut_off = True, "cannot reach it"
        self.reconcile(name)
        host.goes_back, host.cut_off = False, ""

    @rule(name=st.sampled_from("ab"), seed=st.integers(0, 1000))
    def a_hand(self, name: str, seed: int) -> None:
        """Breaks something of ours; what an earlier one has taken away already stays so."""
        accident = random.Random(seed).choice([*hands(self.manifest(name))])
        try:
            accident(self.hosts[name].machine)
        except (KeyError, StopIteration):
            return

    @rule(name=st.sampled_from("ab"))
    def a_restart(self, name: str) -> None:
        self.hosts[name].machine.reboot()

    # ── passes ───────────────────────────────────────────────────────────────────────────────────────────────

    def manifest(self, name: str) -> Manifest:
        return PLATFORMS["linux"].lower(age.opened(self.fleet.hosts[name], self.identities).spec)

    def reconcile(self, name: str, reviewed: bool = False, approved: frozenset[str] = frozenset()) -> Report:
        spec, host = age.opened(self.fleet.hosts[name], self.identities).spec, self.hosts[name]
        approved |= {kept.purge for kept in retained(name, host.machine.inventory)}  # too early, all of them
        given = Circumstances(TODAY, self.fleet.guard, approved=approved, reviewed=reviewed)
        report = reconcile(spec, host, host.stock, Pass(given))
        self.jails_write(name)
        return report

    def jails_write(self, name: str) -> None:
        """Each jail that has a place for data puts something there, once; and what was put there is there."""
        machine, kept = self.hosts[name].machine, self.precious[name]
        for resource in self.manifest(name).resources:
            for path, state in resource.state.items() if resource.type == "data/1" else ():
                if state == "there" and path in machine.files and f"{path}/precious" not in kept:
                    kept[f"{path}/precious"] = f"of {resource.owner}".encode()
                    machine.put(File(f"{path}/precious", kept[f"{path}/precious"]))
        assert kept.items() <= {path: node.content for path, node in machine.files.items()}.items()

    def converge(self, name: str) -> None:
        """As staff would: they let happen what waits for them, and lift what is suspended."""
        report = Report(name, "")
        for _ in range(ENOUGH):
            report = self.reconcile(name, approved=frozenset({report.approval}), reviewed=self.was_cut_off(report))
            if report.ready and not report.done:
                return
        raise AssertionError((name, report.refusal, report.failures, report.conflicts, report.pending))

    def was_cut_off(self, report: Report) -> bool:
        return report.refusal.startswith("this network and firewall have cut the host off before")

    def teardown(self) -> None:
        for path in sorted(self.repo.rglob("*.yaml")):
            document = ryaml.loads(path.read_text())
            if document.get("spec") and document["spec"].pop("suspend", None):
                path.write_text(ryaml.dumps(document))
        fleet = self.compiled()
        assert fleet is not None
        self.fleet = fleet
        for name in self.hosts:
            self.converge(name)
        shutil.rmtree(self.folder)


def hands(manifest: Manifest) -> Iterator[drift.Accident]:
    for resource in manifest.resources:
        for attribute in resource.state if resource.type != "data/1" else ():
            yield from (accident for _, accident in drift.accidents(resource, attribute))


MANY = os.environ.get("RECONCILER_KILLS") == "all"
Life.TestCase.settings = settings(
    deadline=None,
    derandomize=not MANY,
    max_examples=200 if MANY else 5,
    stateful_step_count=50 if MANY else 30,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
TestAnyEditsAndAnyFaultsEndRight = Life.TestCase
