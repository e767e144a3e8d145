"""What is remembered of the health of one host's jails: failures in a row, and when which jail was restarted for them.

In: Reports of passes, Answers of rounds, and what time it is. Out: which jails are unwell or starting, and which are to
be restarted now. It is lost with the process, and nothing but time with it: a reconciler that starts again counts anew.
Must not know how anybody is asked, nor look at a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.guards import trips
from reconciler.health import Answer, questions
from reconciler.model import HEALTH, JAIL, Change, Check, Guard, Jail, Report

Key = tuple[Check, str]
"""What is asked, and where."""
FIRST_WAIT, LONGEST_WAIT = 60.0, 3600.0
"""Seconds between two restarts of a jail: doubled each time, and never less than its startTimeout."""


@dataclass
class Case:
    """One jail. `begun`: when it was made or changed, until all its checks have passed once."""

    jail: Jail
    begun: float | None = None
    failures: dict[Key, tuple[int, str]] = field(default_factory=dict)
    """How often in a row, and what it was the last time."""
    unasked: dict[Key, str] = field(default_factory=dict)
    ailing: str = ""
    """What was wrong when it had failed too often; until all its checks have passed."""
    told: bool = False
    """That is of this life of it: what fails in turn is not news each time."""
    restarts: int = 0
    restarted: float = 0.0
    well_since: float | None = None
    asked: float | None = None

    @property
    def uneasy(self) -> bool:
        """It is worth asking soon."""
        return bool(self.failing or self.ailing) or self.begun is not None

    @property
    def wait(self) -> float:
        """From one restart to the next, and until what was before is forgotten."""
        doubled: float = FIRST_WAIT * 2.0 ** min(self.restarts - 1, 10)
        return max(float(self.jail.health.start_timeout), min(LONGEST_WAIT, doubled))

    @property
    def failing(self) -> str:
        """What failed when it was asked last."""
        return next((why for count, why in self.failures.values() if count), "")

    @property
    def failed(self) -> str:
        """What has failed too often since it was started last."""
        often = ((key[0].failures, why) for key, (count, why) in self.failures.items() if count >= key[0].failures)
        return next((why if times == 1 else f"{why}, {times} times in a row" for times, why in often), "")

    def late(self, now: float) -> bool:
        return self.begun is None or now - self.begun >= self.jail.health.start_timeout

    def ill(self, now: float) -> str:
        if self.begun is None:
            return self.failed
        limit = self.jail.health.start_timeout
        return f"{self.failing}, {limit} s after it was started" if self.failing and self.late(now) else ""

    def due(self, now: float) -> bool:
        waited = not self.restarts or now - self.restarted >= self.wait
        return bool(self.failed) and self.jail.health.restart and self.late(now) and waited

    def hear(self, answers: Iterable[Answer], now: float) -> None:
        self.asked = now
        for answer in answers:
            self._note(answer)
        passed = self.failures.keys() == set(keys(self.jail)) and not self.failing
        if passed:
            self.begun, self.ailing, self.told = None, "", False
            self.well_since = now if self.well_since is None else self.well_since
            self.restarts = 0 if now - self.well_since >= self.wait else self.restarts
        elif self.failing:
            self.well_since = None
        elif self.late(now):
            # nobody can be asked, and so nothing is waited for
            self.begun = None
        if not self.told and (why := self.ill(now)):
            self.ailing, self.told = why, True

    def _note(self, answer: Answer) -> None:
        key = (answer.question.check, answer.question.address)
        self.unasked.pop(key, None)
        if answer.verdict == "unasked":
            self.unasked[key] = answer.why
        elif answer.verdict == "well":
            self.failures[key] = (0, "")
        else:
            self.failures[key] = (self.failures.get(key, (0, ""))[0] + 1, answer.why)


def keys(jail: Jail) -> Iterable[Key]:
    return ((question.check, question.address) for question in questions([jail]))


class Watch:
    def __init__(self) -> None:
        self._cases: dict[str, Case] = {}

    def saw(self, jails: Iterable[Jail], report: Report, now: float) -> None:
        """After a pass: what it has changed begins anew, what it has restarted for its health goes on being ill."""
        checked = {jail.id: jail for jail in jails if jail.health.checks}
        self._cases = {id: self._case(jail) for id, jail in checked.items()}
        failed = {failure.owner for failure in report.failures}
        for owner, revived in started(report.done).items() if checked else ():
            case = self._cases.get(owner)
            if case and revived:
                self._cases[owner] = replace(
                    case, failures={}, told=False, restarts=case.restarts + 1, restarted=now, well_since=None
                )
            elif case:
                self._cases[owner] = Case(case.jail, begun=now)
        for owner in failed & set(self._cases):
            self._cases[owner].failures = {}

    def _case(self, jail: Jail) -> Case:
        """What its document no longer asks is forgotten, and what it asks now is asked at once."""
        known = self._cases.get(jail.id)
        if known is None:
            return Case(jail)
        asked = set(keys(jail))
        failures = {key: count for key, count in known.failures.items() if key in asked}
        last = known.asked if jail.health == known.jail.health else None
        return replace(known, jail=jail, failures=failures, unasked={}, asked=last)

    @property
    def uneasy(self) -> bool:
        return any(case.uneasy for case in self._cases.values())

    @property
    def beginning(self) -> bool:
        return any(case.begun is not None for case in self._cases.values())

    def askable(self, report: Report, now: float, period: float) -> list[Jail]:
        """Those that should answer, of whom nothing is known that is newer than a period, or nothing good. Not those to
        which something is to happen still."""
        busy = {change.owner for change in report.pending}
        busy |= {failure.owner for failure in (*report.failures, *report.conflicts)}
        cases = (case for id, case in self._cases.items() if id not in busy)
        return [case.jail for case in cases if case.uneasy or case.asked is None or now - case.asked >= period]

    def heard(self, answers: Iterable[Answer], now: float) -> None:
        by_jail: dict[str, list[Answer]] = {}
        for answer in answers:
            by_jail.setdefault(answer.question.jail.id, []).append(answer)
        for id, theirs in by_jail.items():
            if id in self._cases:
                self._cases[id].hear(theirs, now)

    def due(self, guard: Guard, now: float) -> Mapping[str, str]:
        """Who is to be restarted now, and why; nobody where too many are ill for it to be their own doing."""
        if self._too_many(guard):
            return {}
        return {id: case.failed for id, case in sorted(self._cases.items()) if case.due(now)}

    def told(self, report: Report, guard: Guard) -> Report:
        """The report, with what is known of its jails' health; nothing of a host that cannot be reached."""
        if report.unreachable:
            return replace(report, ailing=(), starting=(), unchecked=())
        cases = sorted(self._cases.items())
        ailing = [(id, illness(case)) for id, case in cases if case.ailing]
        beginning = [(id, case) for id, case in cases if case.begun is not None and not case.ailing]
        starting = tuple((id, case.failing or "its checks are still to be asked") for id, case in beginning)
        unchecked = tuple((id, why) for id, case in cases for why in list(case.unasked.values())[:1])
        if self._too_many(guard):
            ailing.insert(0, ("", f"{len(ailing)} of {len(cases)} jails that have checks fail them at the same time"))
        return replace(report, ailing=tuple(ailing), starting=starting, unchecked=unchecked)

    def _too_many(self, guard: Guard) -> bool:
        return trips(guard, sum(bool(case.ailing) for case in self._cases.values()), len(self._cases))


def started(done: Iterable[Change]) -> dict[str, bool]:
    """Jails that run since this pass → whether it was for their health alone."""
    changes = [c for c in done if c.type.startswith(JAIL) and c.resource and (c.action == "create" or c.disrupts)]
    return {c.owner: [attribute for attribute, _, _ in c.differences] == [HEALTH] for c in changes}


def illness(case: Case) -> str:
    if not case.restarts:
        return case.ailing
    times = "once" if case.restarts == 1 else f"{case.restarts} times"
    return f"{case.ailing}; restarted {times}, which has not helped yet"
