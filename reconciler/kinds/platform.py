"""Platform: defaults, guards and rollouts of the whole fleet. Puts nothing on a host by itself; `resolve` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconciler.kinds.documents import Expansion, Staff
from reconciler.model import Document, Guard, Waves, Window


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion()


def guard(staff: Staff) -> Guard:
    return Guard(**staff.platform.get("guard", {}))


def waves(staff: Staff) -> Waves:
    given = dict(staff.platform.get("rollout", {}))
    return Waves(
        shares=tuple(given.pop("shares", Waves().shares)), roll_back=given.pop("rollBack", Waves().roll_back), **given
    )


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def windows(staff: Staff, host: Document) -> tuple[Window, ...]:
    """The host's own, or the platform's."""
    given = host.spec.get("windows", staff.platform.get("windows", ()))
    return tuple(window(each) for each in given)


def window(given: Mapping[str, Any]) -> Window:
    days = frozenset(DAYS.index(day) for day in given.get("days", DAYS))
    return Window(days, minute(given["from"]), minute(given["to"]))


def minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return 60 * int(hours) + int(minutes)
