"""Small builders of what is rendered: jails, hosts, Changes, Reports, Standings. What is not said is dull."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from reconciler.model import (
    Change,
    Fleet,
    HostSpec,
    Jail,
    Limits,
    Nic,
    Problem,
    Report,
    Revision,
    Rule,
    Site,
    Source,
    Ssh,
)
from reconciler.render import status
from reconciler.render.known import Files
from reconciler.render.status import Standing

FIRST, SECOND, THIRD = "1" * 40, "2" * 40, "3" * 40
"""Commits, in their order."""


def jail(id: str, address: str = "2001:db8::1") -> Jail:
    customer, _, name = id.partition("--")
    return Jail(
        id=id,
        customer=customer,
        name=name,
        nic=Nic("j0", "lan0", "02:00:00:00:00:01", (f"{address}/64",), ()),
        blueprint="nginx",
        application=Source("archive", "https://files.example/nginx.tar", "sha256:" + "a" * 64),
        release=None,
        command=("/usr/sbin/nginx",),
        root=False,
        defaults="config",
        data=("/data",),
        environment=(),
        secrets=(),
        limits=Limits(),
        after=(),
        restart=0,
        stop_timeout=15,
        grants=(),
        resolvers=(),
        neighbours=(),
    )


def host(name: str, *ids: str) -> HostSpec:
    jails = [jail(id, f"2001:db8::{name}:{number}") for number, id in enumerate(ids, 1)]
    rules = [Rule(j.id, "in", (), "tcp", (80, 443), "publish") for j in jails]
    ssh = Ssh(f"2001:db8:ffff::{name}", 22, "ssh-ed25519 AAAA")
    return HostSpec(name, "linux", "cam", ssh, "/var/lib/reconciler", (*jails, *rules))


def report(spec: HostSpec, wanted: str = "1", **fields: Any) -> Report:
    """`wanted`: of what is wanted of the host and each of its jails; "1 acme--www=2" for one that differs."""
    common, *others = wanted.split()
    versions = dict(other.split("=") for other in others)
    owners = tuple((j.id, sha256(f"{j.id} {versions.get(j.id, common)}".encode()).hexdigest()) for j in spec.jails)
    return replace(Report(spec.name, sha256(repr((spec.name, wanted)).encode()).hexdigest(), owners), **fields)


def change(words: str, owner: str = "", **fields: Any) -> Change:
    return replace(Change("update", f"file/1 {words}", owner, words), **fields)


def fleet(*hosts: HostSpec, sites: tuple[Site, ...] = (), frozen: frozenset[str] = frozenset()) -> Fleet:
    return Fleet({h.name: h for h in hosts}, sites, frozen)


def standing(fleet: Fleet | None, *reports: Report, commit: str = FIRST, **fields: Any) -> Standing:
    revision = Revision({"": commit if fleet else None, **fields.pop("mounts", {})})
    problems, rollout = fields.pop("problems", ()), fields.pop("rollout", None)
    return Standing("main", fields.pop("head", commit), revision, fleet, problems, as_map(reports), rollout)


def as_map(reports: tuple[Report, ...]) -> Mapping[str, Report]:
    return {report.host: report for report in reports}


def after(standing: Standing, before: Files | None = None) -> dict[str, bytes]:
    """The whole branch once this standing is published."""
    before = before or {}
    both = {**before, **status.files(standing, before)}
    return {path: data for path, data in sorted(both.items()) if data is not None}


def mistake(path: str, message: str, hint: str = "", line: int = 7) -> Problem:
    return Problem(path, line, 3, message, hint)
