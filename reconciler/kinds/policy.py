"""FirewallPolicy: what a host lets in and out. Puts nothing on a host by itself; the hosts that name it do.

Checked here: rules that name a table that is not there, and a list that would block everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from reconciler.kinds.documents import Expansion, Staff, missing
from reconciler.kinds.host import SIDES
from reconciler.model import Document, Pointer, Problem, problem


def expand(document: Document, staff: Staff) -> Expansion:
    return Expansion(problems=(*table_problems(document), *block_problems(document)))


def block_problems(document: Document) -> Iterator[Problem]:
    """What is blocked is so before all else, the reconciler's own SSH too: nobody could take that back from here."""
    for position, name in enumerate(document.spec.get("block", ())):
        everybody = [prefix for prefix in document.spec.get("tables", {}).get(name, ()) if prefix.endswith("/0")]
        if everybody:
            message = f"{name} has {everybody[0]} in it: nobody would come in, and the reconciler neither"
            yield problem(document.path, ("spec", "block", position), message, "remove it from the table")


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
