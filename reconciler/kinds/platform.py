"""Platform: defaults and guards of the whole fleet. Puts nothing on a host by itself; `resolve` reads its guard."""

from __future__ import annotations

from reconciler.kinds.documents import Expansion, Staff
from reconciler.model import Document, Guard


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion()


def guard(staff: Staff) -> Guard:
    return Guard(**staff.platform.get("guard", {}))
