"""A hosting company with one FreeBSD host: its config repository in git, its archives, and the command line.

In: a Host. Out: commits as people make them, plans and applies as people run them. Nothing here calls the product's
functions but `pack`: all goes through git and the command line. `documents` is the whole repository.

    lab: web (8080 for everybody; 8081 for nobody)  ── cable 10.77.0.0/30 ──  db (5432 for web alone; 8081 for nobody)
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ryaml

from reconciler.packing import pack

from .host import Done, Host

PROJECT = Path(__file__).parents[2]
APPLICATION = Path(__file__).parent / "application"
API, NAME, SWITCH = "reconciler.hosting/v1", "fb", "rcbr0"
PREFIX = "fd52:6563:6f6e:"
HOST, BLUEPRINT = f"hosts/{NAME}.yaml", "blueprints/page.yaml"
GATEWAY = f"{PREFIX}ffff::1"
WEB, WEB_MOVED, DB = f"{PREFIX}1::80", f"{PREFIX}1::81", f"{PREFIX}1::db"
WEB_LINK, DB_LINK = "10.77.0.1", "10.77.0.2"
WEB_JAIL, DB_JAIL = "lab__web", "lab__db"
"""What the host calls them: the ids lab--web and lab--db with its own signs."""
WEB_NIC, DB_NIC = "rc_web0", "rc_db0"
HOME = "/var/lib/reconciler/jails"
APPLY = 3000.0
"""Seconds: what one apply may take, with three looks at the host and room for an emulated one."""
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ada"), ("EMAIL", "ada@example.org"))
}


class Company:
    def __init__(self, folder: Path, host: Host) -> None:
        self.host, self.folder = host, folder
        self.remote, self.clone = folder / "config.git", folder / "clone"
        self.archives, self.config = folder / "archives", folder / "reconciler.toml"
        self.environment = {**os.environ, **IDENTITY, "PYTHONPATH": str(PROJECT), "NO_COLOR": "1"}
        self.moved_in = False
        """Whether both jails came up: without them nothing can be told of them."""
        self.unsettled = ""
        """The test that left the host so that it could not be brought back."""
        self.archives.mkdir(parents=True)
        self.digest = pack(APPLICATION, self.archives / "page.tar")
        self.git("init", "-q", "--bare", "-b", "main", str(self.remote), at=folder)
        self.git("init", "-q", "-b", "main", str(self.clone), at=folder)
        self.git("remote", "add", "origin", str(self.remote))
        self.config.write_text(CONFIG.format(company=self))
        for path, document in documents(host, self.archives, self.digest).items():
            self.write(path, document)

    # ── git, as people use it ────────────────────────────────────────────────────────────────────────────────

    def git(self, *words: str, at: Path | None = None) -> str:
        done = self.call(["git", "-C", str(at or self.clone), *words], 120)
        assert done.code == 0, str(done)
        return done.out

    def write(self, path: str, document: Mapping[str, Any]) -> None:
        (self.clone / path).parent.mkdir(parents=True, exist_ok=True)
        (self.clone / path).write_text(ryaml.dumps(dict(document)))

    def edit(self, name: str, **fields: Any) -> None:
        """Sets fields of a jail's spec; None takes one away."""
        self.amend(f"customers/lab/jails/{name}.yaml", **fields)

    def amend(self, path: str, **fields: Any) -> None:
        """The same, of any document."""
        document = ryaml.loads((self.clone / path).read_text())
        kept = {key: value for key, value in document["spec"].items() if key not in fields}
        document["spec"] = kept | {key: value for key, value in fields.items() if value is not None}
        self.write(path, document)

    def jail(self, name: str, spec: Mapping[str, Any]) -> None:
        self.write(f"customers/lab/jails/{name}.yaml", document("Jail", name, spec))

    def wall(self, out: list[dict[str, Any]] | None) -> None:
        """A policy for what the host itself may reach, or none."""
        policy = self.clone / "policies/edge.yaml"
        policy.unlink(missing_ok=True)
        if out is not None:
            self.write("policies/edge.yaml", document("FirewallPolicy", "edge", {"out": out}))
        self.amend(HOST, policy="edge" if out is not None else None)

    def remove(self, *names: str) -> None:
        for name in names:
            (self.clone / f"customers/lab/jails/{name}.yaml").unlink()

    def push(self, subject: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", subject)
        self.git("push", "-q", "-u", "origin", "main")

    def status(self, path: str) -> str:
        """A file of the status branch; "" when it is not there."""
        return self.call(["git", "-C", str(self.remote), "show", f"status/main:{path}"], 120).out

    # ── the product, as people run it ────────────────────────────────────────────────────────────────────────

    def call(self, words: list[str], timeout: float) -> Done:
        told = " ".join(words).replace(f"{sys.executable} -m ", "")
        return self.host.call(words, timeout=timeout, told=told, folder=self.folder, environment=self.environment)

    def run(self, *words: str) -> Done:
        """`reconciler WORDS`."""
        return self.call([sys.executable, "-m", "reconciler", "--config", str(self.config), *words], APPLY)

    def plan(self, *, refused: bool | None = False) -> dict[str, Any]:
        """What would be done, as a program reads it. `refused`: whether a guard must hold it; None: it may."""
        done = self.run("plan", NAME, "--format", "json")
        assert done.out.startswith("{"), str(done)
        planned: dict[str, Any] = json.loads(done.out)["hosts"][0]
        held = bool(planned["refusal"])
        assert refused in (held, None) and done.code == (1 if held else 2 if planned["pending"] else 0), str(done)
        return planned

    def carry_out(self, planned: Mapping[str, Any]) -> Done:
        """Exactly this plan, as somebody does who has read it."""
        done = self.run("apply", NAME, "--digest", planned["plan"])
        assert done.code == 0, str(done)
        return done

    def settle(self, subject: str) -> dict[str, Any]:
        """A commit, its plan, and the plan done; the plan."""
        self.push(subject)
        planned = self.plan()
        assert planned["pending"], f"{subject}: nothing would be done"
        self.carry_out(planned)
        return planned

    def bring_back(self, after: str) -> None:
        """After a failure: whatever is to be done is done, so that what follows can be tried at all."""
        told = self.run("apply", NAME, "--adopt")
        if "refused: " in told.out and " plan " in told.out:
            told = self.run("apply", NAME, "--digest", digest_of(told.out))
        if told.code != 0:
            self.unsettled = after

    def nothing_to_do(self) -> None:
        done = self.run("plan", NAME)
        assert done.code == 0 and f"host {NAME}: as it should be" in done.out, str(done)


def touched(planned: Mapping[str, Any]) -> set[str]:
    """Owners of what a plan changes; "" is the host itself."""
    return {change["owner"] for change in planned["pending"]}


def disrupted(planned: Mapping[str, Any]) -> set[str]:
    return {change["owner"] for change in planned["pending"] if change.get("disrupts")}


def words(planned: Mapping[str, Any]) -> str:
    return "\n".join(change["words"] for change in planned["pending"])


# ── documents ────────────────────────────────────────────────────────────────────────────────────────────────


CONFIG = """\
[source]
url = "{company.remote}"

[ssh]
key = "{company.host.key}"

[secrets]
keys = "{company.folder}/keys"

[fetch]
files = "{company.archives}"

[web]
listen = ""

[daemon]
cache = "{company.folder}/cache"
"""
LIMITS = {"memory": "1Gi", "processes": 40}
"""Enough for forty small processes: vmemoryuse counts what each has mapped."""
JAILS: Mapping[str, Mapping[str, Any]] = {
    "db": {
        "blueprint": "page",
        "host": NAME,
        "nic": DB_NIC,
        "address": DB,
        "parameters": {"PORTS": "5432 8081"},
        "publish": [{"port": 5432, "from": ["web"]}],
        "limits": LIMITS,
    },
    "web": {
        "blueprint": "page",
        "host": NAME,
        "nic": WEB_NIC,
        "address": WEB,
        "publish": [{"port": 8080}],
        "links": [
            {
                "to": "db",
                "nic": "web_db",
                "address": f"{WEB_LINK}/30",
                "peerNic": "db_web",
                "peerAddress": f"{DB_LINK}/30",
            }
        ],
        "after": ["db"],
        "limits": LIMITS,
    },
}


def document(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}


def documents(host: Host, archives: Path, digest: str) -> dict[str, dict[str, Any]]:
    """All but the jails, which move in later."""
    # one jail of two may restart, both at once are held until somebody has read the plan
    guard = {"percent": 50, "minimum": 2}
    switch = {"name": SWITCH, "addresses": [f"{GATEWAY}/64"]}
    address, port = host.way
    ssh = {"address": address, "port": port, "hostKey": host.host_key}
    return {
        "platform.yaml": document("Platform", "platform", {"defaults": {"limits": LIMITS}, "guard": guard}),
        "locations/rack.yaml": document(
            "Location", "rack", {"prefix": f"{PREFIX}:/48", "mode": "routed", "announce": "none"}
        ),
        HOST: document("Host", NAME, {"platform": platform(), "location": "rack", "ssh": ssh, "switches": [switch]}),
        BLUEPRINT: document("Blueprint", "page", dict(blueprint(archives, digest))),
        "customers/lab/customer.yaml": document(
            "Customer", "lab", {"subnet": 1, "domains": ["lab.example"], "quota": {"jails": 3, "memory": "4Gi"}}
        ),
    }


def blueprint(archives: Path, digest: str) -> Iterator[tuple[str, Any]]:
    yield "source", {"archive": f"file://{archives}/page.tar", "digest": digest}
    yield "command", ["/bin/sh", "/app/serve"]
    yield "defaults", "config"
    yield "ports", [8080, 8081, 5432]
    yield (
        "parameters",
        {
            "PORTS": {"description": "Where it answers.", "pattern": "[0-9 ]+", "default": "8080 8081"},
            "TEXT": {"description": "A word on the page.", "pattern": "[ -~]{0,100}", "default": "first"},
        },
    )


def platform() -> str:
    """`freebsd`; where the schema does not know it yet, one that it knows stands in, for the tests without a host."""
    schema = json.loads((PROJECT / "schemas/host.json").read_text())
    known = schema["properties"]["spec"]["properties"]["platform"]["enum"]
    return "freebsd" if "freebsd" in known else str(known[0])


def digest_of(text: str) -> str:
    """Of a plan that was printed for people."""
    found = re.search(r"^  plan ([0-9a-f]{16})$", text, re.MULTILINE)
    assert found, text
    return found[1]
