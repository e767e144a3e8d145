"""The sample repository on real hosts: what the tests of this folder read, edit, break and reconcile.

In: the lab, and a copy of sample-repo. Out: Reports, plans, and pages as visitors see them. A test changes documents as
people do (`edit`, `remove`, `secret`) and hosts as an administrator does (`host.run`), and then asks for a pass.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

import ryaml

import rules
from lab import Host, Lab
from reconciler import age
from reconciler.fetch import fetch
from reconciler.hostile import normalise
from reconciler.model import Circumstances, Fleet, HostSpec, Manifest, Observation, Plan, Report, Source
from reconciler.packing import pack
from reconciler.plan import plan
from reconciler.platforms import PLATFORMS
from reconciler.reconcile import Answering, Pass, nobody, reconcile
from reconciler.remote import Credentials, Remote
from reconciler.repo import WorkTree
from reconciler.revision import Compiler
from reconciler.wire import ShellWire

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "sample-repo"
TODAY = date(2026, 1, 31)
SPEC = "spec"


class Garage:
    """The archives of the sample, packed once, and as `normalise` makes them safe to unpack."""

    def __init__(self, folder: Path) -> None:
        self.files, self.cache = folder / "files", folder / "cache"
        self.files.mkdir(parents=True)
        for tree in sorted((SAMPLE / "files").iterdir()):
            self.pack(tree)

    def pack(self, tree: Path) -> str:
        """The digest of the archive made of a directory."""
        return pack(tree, self.files / f"{tree.name}.tar")

    def stock(self, source: Source) -> BinaryIO:
        here = replace(source, url=source.url.replace("/srv/archives", str(self.files)))
        return normalise(fetch(here, self.cache, self.files, None)).open("rb")


@dataclass
class World:
    """A desired state on disk, and the hosts it is about."""

    lab: Lab
    repo: Path
    garage: Garage
    keys: Path
    hosts: dict[str, Host]
    without_root: frozenset[str] = frozenset()
    """Hosts on which root may not log in."""
    touched: bool = False
    """Whether documents or hosts may differ from the sample."""
    wires: dict[str, ShellWire] = field(default_factory=dict)
    applied: dict[str, HostSpec] = field(default_factory=dict)
    """What each host was told last to be."""
    _compiled: Fleet | None = None

    # ── desired state ────────────────────────────────────────────────────────────────────────────────────

    @property
    def fleet(self) -> Fleet:
        """The documents as they are now; they must have no problem."""
        if self._compiled is None:
            compiled = Compiler().compile(WorkTree(self.repo))
            assert not compiled.all_problems, compiled.all_problems
            self._compiled = compiled.fleet
        return self._compiled

    def spec(self, name: str) -> HostSpec:
        """What a host must be, with its secrets opened."""
        opened = age.opened(self.fleet.hosts[name], age.Identities(self.keys))
        assert not opened.failures, opened.failures
        return opened.spec

    def manifest(self, name: str) -> Manifest:
        return PLATFORMS["linux"].lower(self.spec(name))

    def document(self, path: str) -> dict[str, Any]:
        document: dict[str, Any] = ryaml.loads((self.repo / path).read_text())
        return document

    def write(self, path: str, document: Mapping[str, Any] | str) -> None:
        text = document if isinstance(document, str) else ryaml.dumps(dict(document))
        (self.repo / path).parent.mkdir(parents=True, exist_ok=True)
        (self.repo / path).write_text(text)
        self.touched, self._compiled = True, None

    def edit(self, path: str, change: Callable[[Any], object] | None = None, **fields: Any) -> None:
        """Sets fields of a document's spec (None takes one away), or lets a function change it."""
        document = self.document(path)
        spec = document[SPEC]
        for name, value in fields.items():
            spec.pop(name, None)
            if value is not None:
                spec[name] = value
        if change:
            change(spec)
        self.write(path, document)

    def jail(self, customer: str, name: str, **spec: Any) -> None:
        """A new jail's document, or another one for an old jail."""
        head = {"apiVersion": "reconciler.hosting/v1", "kind": "Jail", "metadata": {"name": name}}
        self.write(f"customers/{customer}/jails/{name}.yaml", {**head, SPEC: spec})

    def remove(self, *paths: str) -> None:
        for path in paths:
            (self.repo / path).unlink()
        self.touched, self._compiled = True, None

    def secret(self, customer: str, name: str, value: bytes) -> None:
        recipient = self.document(f"customers/{customer}/customer.yaml")[SPEC]["recipient"]
        self.write(f"customers/{customer}/secrets/{name}.age", age.seal(value, recipient))

    def restore(self) -> None:
        """The documents as the sample has them, each host with the lab's address and key."""
        shutil.rmtree(self.repo, ignore_errors=True)
        shutil.copytree(SAMPLE, self.repo)
        for name, host in self.hosts.items():
            user = {"user": rules.ACCOUNT} if name in self.without_root else {}
            self.edit(f"hosts/{name}.yaml", ssh={"address": host.address, "hostKey": host.host_key, **user})
        self.touched = False

    # ── hosts ────────────────────────────────────────────────────────────────────────────────────────────

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def close_root(self) -> None:
        for name in self.without_root:
            rules.close_root(self.hosts[name])

    def remote(self, name: str) -> Remote:
        return Remote(self.fleet.hosts[name].ssh, Credentials(self.lab.key), PLATFORMS["linux"].AS_ROOT)

    def wire(self, name: str) -> ShellWire:
        """Kept, as in the daemon: the connection stays open from pass to pass."""
        if name not in self.wires:
            self.wires[name] = ShellWire(self.remote(name), PLATFORMS["linux"])
        return self.wires[name]

    def reconcile(
        self, name: str, *, apply: bool = True, digest: str = "", answering: Answering = nobody, **given: Any
    ) -> Report:
        """One pass. `given` are fields of Circumstances; the guard is off unless `reviewed=False`."""
        circumstances = Circumstances(**{"today": TODAY, "reviewed": True, **given})
        self.applied[name] = self.fleet.hosts[name]
        return reconcile(
            self.spec(name), self.wire(name), self.garage.stock, Pass(circumstances, apply, digest, answering)
        )

    def observe(self, name: str) -> Observation:
        return self.wire(name).observe(self.manifest(name))

    def plan(self, name: str, **given: Any) -> Plan:
        circumstances = Circumstances(**{"today": TODAY, "reviewed": True, **given})
        return plan(self.manifest(name), self.observe(name), circumstances)

    def words(self, name: str, **given: Any) -> str:
        """What a pass would do, as people read it."""
        return "\n".join(change.words for change in self.plan(name, **given).changes)

    def converge(self, *names: str, **given: Any) -> dict[str, Report]:
        """One pass a host, which has to succeed and leave nothing for a second one."""
        reports = {name: self.reconcile(name, **given) for name in names or self.hosts}
        for name, report in reports.items():
            assert report.ready, report
            assert not self.words(name)
        return reports

    def address(self, host: str, jail: str) -> str:
        """The jail's first address, without its length."""
        return next(j for j in self.fleet.hosts[host].jails if j.id == jail).nic.addresses[0].partition("/")[0]


def page(address: str, port: int = 80, path: str = "/", timeout: float = 60) -> str:
    """A page as a visitor gets it from the lab's router; a jail that is starting is waited for."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask(address, port, path)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def ask(address: str, port: int = 80, path: str = "/", timeout: float = 2) -> str:
    """One attempt."""
    connection = http.client.HTTPConnection(address, port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        if answer.status != 200:
            raise http.client.HTTPException(f"{answer.status}: {body}")
        return body
    finally:
        connection.close()


def opens(address: str, port: int, timeout: float = 1.0) -> bool:
    """Whether a TCP connection is accepted."""
    try:
        socket.create_connection((address, port), timeout=timeout).close()
    except OSError:
        return False
    return True
