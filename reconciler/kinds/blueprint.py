"""Blueprint: an application environment. Puts nothing on a host by itself; the jails that run it do.

Checked here: parameters whose own default does not match their pattern, grants that would do nothing, data where the
platform has something of its own, and checks of ports that are none.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.kinds.documents import Expansion, Staff
from reconciler.kinds.health import health_problems
from reconciler.load import whole
from reconciler.model import Document, Problem, problem

OWN = ("JAIL_NAME", "JAIL_ADDRESS")
"""Environment variables that every jail has."""
TAKEN = ("app", "config", "release", "run", "etc", "dev", "proc", "sys", "tmp")
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libexec")
"""Of a jail's root: what the platform puts there, and programs of the host. Data would hide it, or be hidden."""


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(
        problems=(
            *parameter_problems(document),
            *grant_problems(document),
            *data_problems(document),
            *health_problems(document, document),
        )
    )


def grant_problems(document: Document) -> Iterator[Problem]:
    """Only root has the privilege that chflags is about (chflags(2))."""
    grants = document.spec.get("grants", ())
    if "chflags" in grants and document.spec.get("runAs") != "root":
        pointer = ("spec", "grants", grants.index("chflags"))
        yield problem(
            document.path, pointer, "chflags does nothing here: the command does not run as root", "remove it"
        )


def data_problems(document: Document) -> Iterator[Problem]:
    listed = document.spec.get("data", ())
    for index, path in enumerate(listed):
        first = path.split("/")[1]
        if first in (*TAKEN, *SYSTEM):
            message = f"a jail's /{first} is not for data"
            yield problem(document.path, ("spec", "data", index), message, "take a directory such as /data")
        elif outer := next((other for other in listed if path.startswith(f"{other}/")), ""):
            message = f"{path} lies in {outer}, which is there already"
            yield problem(document.path, ("spec", "data", index), message, "remove it, or take one beside it")


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
