"""Approval: staff let happen what a guard holds back, or let go the data of a jail that is gone. Puts nothing on a host
by itself; `resolve` reads what it says.

Its name is that of the held changes or of the data, which the status gives: an approval of anything else lets nothing
go, and one that was not taken back in time ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from reconciler.kinds.documents import Expansion, Staff
from reconciler.model import Document


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion()


def approvals(staff: Staff) -> Mapping[str, str]:
    """Name → the last day on which it holds."""
    return {name: document.spec["until"] for name, document in staff.named("Approval").items()}
