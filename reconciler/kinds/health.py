"""Health: what a Blueprint and a Jail say of checks, together.

In: the `health` of both documents. Out: the jail's Health, Problems of ports on which nothing listens, and Rules that
let its host ask where the host's own rules, or the way there, would not. A check opens nothing to anybody else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.kinds.documents import Place, Staff
from reconciler.model import Check, Document, Health, Jail, Problem, Rule, problem

START_TIMEOUT, TIMEOUT, FAILURES = 120, 5, 3
"""The schema's defaults."""


def health(spec: Mapping[str, Any], blueprint: Mapping[str, Any]) -> Health:
    """Part by part, and all checks are one part: whose are asked can be seen in one document."""
    wanted = {**blueprint.get("health", {}), **spec.get("health", {})}
    return Health(
        checks=tuple(map(check, wanted.get("checks", ()))),
        start_timeout=wanted.get("startTimeout", START_TIMEOUT),
        restart=wanted.get("restart", True),
    )


def check(asked: Mapping[str, Any]) -> Check:
    often = {"timeout": asked.get("timeout", TIMEOUT), "failures": asked.get("failures", FAILURES)}
    if "command" in asked:
        return Check("command", command=tuple(asked["command"]), **often)
    if "http" in asked:
        return Check("http", **asked["http"], **often)
    return Check("tcp", asked["tcp"], **often)


def health_problems(document: Document, blueprint: Document) -> Iterator[Problem]:
    """Of the document's own checks; those of the blueprint are its own to answer for."""
    ports = blueprint.spec.get("ports", ())
    for index, asked in enumerate(document.spec.get("health", {}).get("checks", ())):
        kind = "http" if "http" in asked else "tcp"
        port = asked["http"]["port"] if kind == "http" else asked.get("tcp")
        if port is not None and port not in ports:
            where = ("http", "port") if kind == "http" else ("tcp",)
            message = f"blueprint {blueprint.name} does not listen on port {port}"
            hint = f"it listens on {', '.join(map(str, ports))}" if ports else "it listens on no port"
            yield problem(document.path, ("spec", "health", "checks", index, *where), message, hint)


def check_rules(jail: Jail, place: Place, staff: Staff) -> Iterator[Rule]:
    ports = tuple(sorted({check.port for check in jail.health.checks if check.port}))
    if not ports:
        return
    host = staff.named("Host")[place.host]
    policy = staff.find("FirewallPolicy", host.spec.get("policy", ""))
    label = f"{jail.id} is checked"
    if policy and "out" in policy.spec:
        yield Rule("", "out", (f"{jail.address}/128",), "tcp", ports, label, sake=jail.id)
    if staff.named("Location")[place.location].spec["mode"] == "bridged":
        # by the router of the segment, like anybody else's packets, where the host itself is not on it
        yield Rule(jail.id, "in", (f"{host.spec['ssh']['address']}/128",), "tcp", ports, label)
