"""How a host and a jail stand, as conditions: Ready always; Progressing, Degraded and Stalled where they are so.

In: a Report. Out: conditions with a reason for programs and a message for people that ends with the next step: who does
what, or that nothing is to be done. README.md has the same table. Must not know files or git.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from reconciler.model import Failure, Jail, Report
from reconciler.render.plans import summary

Conditions = list[dict[str, str]]
BESIDE: Mapping[str, str] = {
    "Unreachable": "Stalled",
    "OnHold": "Stalled",
    "Refused": "Stalled",
    "Conflict": "Stalled",
    "Failed": "Stalled",
    "Held": "Stalled",
    "Suspended": "Stalled",
    "Pending": "Progressing",
    "Starting": "Progressing",
    "Restarting": "Degraded",
    "Unhealthy": "Degraded",
    "Unchecked": "Degraded",
}
"""Reason → the condition that is true for it. Stalled: it does not go on before somebody does something."""
BY_ITSELF = "it is tried again by itself"


@dataclass(frozen=True, slots=True)
class Verdict:
    reason: str
    message: str


def host_conditions(report: Report) -> Conditions:
    """Of the host itself: what is wrong with a jail alone is told where the jail is, and counted here."""
    own = of_host(report)
    waiting = {c.owner for c in report.pending} | {f.owner for f in (*report.failures, *report.conflicts)}
    count = len((waiting | set(report.unwell)) - {""})
    stuck = next(iter(host_verdicts(own)), None)
    beside = [verdict for verdict in (stuck, *many(report)) if verdict]
    if stuck:
        return [ready(False, stuck.reason, stuck.message), *map(true, beside)]
    attention = f"{count} of its jails need{'s' if count == 1 else ''} attention" if count else "as it should be"
    return [ready(True, "UpToDate", attention), *map(true, beside)]


def host_verdicts(own: Report) -> Iterable[Verdict]:
    """The most urgent one first."""
    if own.unreachable:
        yield Verdict("Unreachable", f"{own.unreachable}; see that it is up and lets us in")
    if own.hold:
        yield Verdict("OnHold", f"{summary(own)}; {release(own)}")
    if own.refusal:
        yield Verdict("Refused", own.refusal)
    if own.failures:
        yield Verdict("Failed", f"{own.failures[0].reason}{others(own.failures)}; {BY_ITSELF}")
    if own.conflicts:
        yield Verdict("Conflict", f"{own.conflicts[0].reason}{others(own.conflicts)}")
    if own.pending:
        yield Verdict("Pending", f"{summary(own)}; {BY_ITSELF}")


def many(report: Report) -> Iterable[Verdict]:
    """What is wrong with more than one jail, which is seldom their own doing."""
    for owner, why in report.ailing:
        if not owner:
            yield Verdict("Unhealthy", f"{why}, so none is restarted: look for what they share")
    if report.unchecked:
        (_, why), count = report.unchecked[0], len(report.unchecked)
        yield Verdict("Unchecked", f"{count} of its jails cannot be asked whether they are well: {why}")


def of_host(report: Report) -> Report:
    """Files that a jail is to run on are sent with it, and go when it has let go of them: they wait for the jail."""
    pending = tuple(c for c in report.pending if not c.owner and not c.key.startswith("tree/"))
    failures = tuple(failure for failure in report.failures if not failure.owner)
    conflicts = tuple(failure for failure in report.conflicts if not failure.owner)
    return replace(report, done=(), pending=pending, failures=failures, conflicts=conflicts)


def release(report: Report) -> str:
    """How a hold ends."""
    if report.hold.startswith("by `suspend`"):
        return "take `suspend` out there when that is done"
    return f"remove /etc/reconciler/hold on host {report.host} when that is done"


def others(failures: tuple[Failure, ...]) -> str:
    return f", and {len(failures) - 1} more" if len(failures) > 1 else ""


# ── jails ────────────────────────────────────────────────────────────────────────────────────────────────────


def jail_conditions(jail: Jail, report: Report, held: str = "", suspended: str = "") -> Conditions:
    """`held`: which mistake keeps its customer at an older commit; what is in force of that may well be ready.
    `suspended`: the document that says so."""
    verdicts = list(jail_verdicts(jail, report))
    why = f"nothing is changed on it: take `suspend` out of {suspended} when that is done"
    beside = [*verdicts[:1], *([Verdict("Held", held)] if held else [])]
    beside += [Verdict("Suspended", why)] if suspended else []
    if verdicts:
        return [ready(False, verdicts[0].reason, verdicts[0].message), *merged(map(true, beside))]
    unknown = dict(report.unchecked).get(jail.id)
    message = f"as it should be, as far as is known: {unknown}" if unknown else "as it should be"
    return [ready(True, "Running", message), *merged(map(true, beside))]


def jail_verdicts(jail: Jail, report: Report) -> Iterable[Verdict]:
    """The most urgent one first."""
    name = f"{jail.customer}/{jail.name}"
    logs = f"`reconciler logs {name}` shows what it said"
    pending = [change for change in report.pending if change.owner == jail.id]
    if report.unreachable:
        yield Verdict("Unreachable", f"host {report.host} cannot be reached: hosts/{report.host}.yaml says what to do")
    for failure in (f for f in report.conflicts if f.owner == jail.id):
        yield Verdict("Conflict", failure.reason)
    for failure in (f for f in report.failures if f.owner == jail.id):
        yield Verdict("Failed", f"{failure.reason}; {BY_ITSELF}")
    if pending and (report.hold or report.refusal):
        yield Verdict(*held_up(report))
    if pending:
        yield Verdict("Pending", f"changes are waiting on the host; {BY_ITSELF}")
    if why := dict(report.degraded).get(jail.id):
        yield Verdict("Restarting", f"{why}; {logs}")
    if why := dict(report.ailing).get(jail.id):
        yield Verdict("Unhealthy", f"{why}; {logs}{'' if jail.health.restart else ', and nobody restarts it'}")
    if why := dict(report.starting).get(jail.id):
        yield Verdict("Starting", f"{why}; it has {jail.health.start_timeout} s from its start: wait")


def held_up(report: Report) -> tuple[str, str]:
    if report.hold:
        return "OnHold", f"host {report.host} is on hold {report.hold}; {release(report)}"
    return "Refused", report.refusal


def is_applied(jail: Jail, report: Report) -> bool:
    """Whether its host has all of what is wanted of it, be it well or not."""
    waiting: set[str] = {change.owner for change in report.pending}
    waiting |= {failure.owner for failure in (*report.failures, *report.conflicts)}
    return not report.unreachable and jail.id not in waiting


# ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────


def ready(value: bool, reason: str, message: str) -> dict[str, str]:
    return {"type": "Ready", "status": str(value), "reason": reason, "message": message}


def true(verdict: Verdict) -> dict[str, str]:
    return {**ready(True, verdict.reason, verdict.message), "type": BESIDE[verdict.reason]}


def merged(found: Iterable[dict[str, str]]) -> Conditions:
    """One of a type: the first."""
    by_type: dict[str, dict[str, str]] = {}
    for each in found:
        by_type.setdefault(each["type"], each)
    return list(by_type.values())


def condition(status: Mapping[str, Any]) -> dict[str, str]:
    """The first one of a file, which is Ready; of a file that somebody else wrote into, only that."""
    return next(iter(known(status)), ready(False, "Unknown", "no status yet"))


def condition_of(type: str, status: Mapping[str, Any]) -> Conditions:
    return [found for found in known(status)[1:] if found.get("type") == type]


def known(status: Mapping[str, Any]) -> Conditions:
    found: Conditions = []
    listed = status.get("conditions")
    for each in listed if isinstance(listed, list) else ():
        match each:
            case {"status": str(), "reason": str(), "message": str()}:
                found.append(dict(each))
    return found
