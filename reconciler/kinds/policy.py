"""FirewallPolicy: what a host lets in and out. Puts nothing on a host by itself; the hosts that name it do.

Checked here: rules that name a table that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.kinds.documents import Expansion, Staff, missing
from reconciler.kinds.host import SIDES
from reconciler.model import Document, Pointer, Problem


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(problems=tuple(table_problems(document)))


def table_problems(document: Document) -> Iterator[Problem]:
    for direction, side in SIDES:
        for index, rule in enumerate(document.spec.get(direction, ())):
            yield from missing_tables(document, ("spec", direction, index, side), rule.get(side, ()))
    for key in ("block", "bypass"):
        yield from missing_tables(document, ("spec", key), document.spec.get(key, ()))


def missing_tables(document: Document, pointer: Pointer, names: Iterable[str]) -> Iterator[Problem]:
    tables = document.spec.get("tables", {})
    for position, name in enumerate(names):
        if name not in tables:
            yield from missing(document, (*pointer, position), "table", name, tables)
