"""FirewallPolicy: what a host lets in and out. Puts nothing on a host by itself; the hosts that name it do.

Checked here: rules that name a table that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.kinds.documents import Expansion, Staff, missing
from reconciler.kinds.host import SIDES
from reconciler.model import Document, Problem


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(problems=tuple(table_problems(document)))


def table_problems(document: Document) -> Iterator[Problem]:
    tables = document.spec.get("tables", {})
    for direction, side in SIDES:
        for index, rule in enumerate(document.spec.get(direction, ())):
            for position, name in enumerate(rule.get(side, ())):
                if name not in tables:
                    yield from missing(document, ("spec", direction, index, side, position), "table", name, tables)
