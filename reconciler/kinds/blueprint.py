"""Blueprint: an application environment. Puts nothing on a host by itself; the jails that run it do.

Checked here: parameters whose own default does not match their pattern, and grants that would do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.kinds.documents import Expansion, Staff
from reconciler.load import whole
from reconciler.model import Document, Problem, problem

OWN = ("JAIL_NAME", "JAIL_ADDRESS")
"""Environment variables that every jail has."""


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(problems=(*parameter_problems(document), *grant_problems(document)))


def grant_problems(document: Document) -> Iterator[Problem]:
    """Only root has the privilege that chflags is about (chflags(2))."""
    grants = document.spec.get("grants", ())
    if "chflags" in grants and document.spec.get("runAs") != "root":
        pointer = ("spec", "grants", grants.index("chflags"))
        yield problem(
            document.path, pointer, "chflags does nothing here: the command does not run as root", "remove it"
        )


def parameter_problems(document: Document) -> Iterator[Problem]:
    for name, parameter in document.spec.get("parameters", {}).items():
        if name in OWN:
            message = f"{name} does nothing here: the platform sets it"
            yield problem(document.path, ("spec", "parameters", name), message, "remove it")
        default = parameter.get("default")
        if default is not None and not matches(parameter.get("pattern"), default):
            pointer = ("spec", "parameters", name, "default")
            yield problem(document.path, pointer, f"the default does not match the pattern {parameter['pattern']}", "")


def matches(pattern: str | None, value: str) -> bool:
    return pattern is None or whole(pattern).is_valid(value)
