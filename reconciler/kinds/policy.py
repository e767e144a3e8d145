"""FirewallPolicy: what a host lets in and out. Puts nothing on a host by itself; the hosts that name it do.

Checked here: rules that name a table that is not there, a name that is a table and a list, and who would be blocked:
not everybody. A list in the repository, `lists/NAME.txt`, is a table of every policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import chain

from reconciler.kinds import lists
from reconciler.kinds.documents import Expansion, Staff, missing
from reconciler.kinds.host import SIDES
from reconciler.model import Document, Pointer, Problem, problem


def expand(document: Document, staff: Staff) -> Expansion:
    found = (name_problems(document, staff), table_problems(document, staff), block_problems(document, staff))
    return Expansion(problems=tuple(chain.from_iterable(found)))


def name_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    for name in document.spec.get("tables", {}):
        if name in staff.lists:
            message = f"{name} is a list already, {staff.lists[name].path}"
            yield problem(document.path, ("spec", "tables", name), message, "remove one of the two, or rename it")


def block_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    """What is blocked is so before all else, the reconciler's own SSH too: nobody could take that back from here."""
    for position, name in enumerate(document.spec.get("block", ())):
        everybody = [prefix for prefix in lists.table(document, name, staff) if prefix.endswith("/0")]
        if everybody:
            hint = f"remove it from {staff.lists[name].path if name in staff.lists else 'the table'}"
            message = f"{name} has {everybody[0]} in it: nobody would come in, and the reconciler neither"
            yield problem(document.path, ("spec", "block", position), message, hint)
    names = document.spec.get("block", ())
    prefixes = lists.joined(lists.table(document, name, staff) for name in names)
    if not any(prefix.endswith("/0") for prefix in prefixes) and (all_of_it := whole(prefixes)):
        message = f"{' and '.join(names)} come to {all_of_it}: nobody would come in, and the reconciler neither"
        yield problem(document.path, ("spec", "block"), message, "look at the shortest prefixes there")


def whole(prefixes: lists.Prefixes) -> str:
    """What shorter ones make up together, as 0.0.0.0/1 and 128.0.0.0/1 do. Only those that could be it are merged."""
    six, four = [p for p in prefixes if ":" in p], [p for p in prefixes if ":" not in p]
    if addresses(six, 128) >= 1 << 128 and list(collapse_addresses(map(IPv6Network, six))) == [IPv6Network("::/0")]:
        return "::/0"
    if addresses(four, 32) >= 1 << 32 and list(collapse_addresses(map(IPv4Network, four))) == [
        IPv4Network("0.0.0.0/0")
    ]:
        return "0.0.0.0/0"
    return ""


def addresses(prefixes: Iterable[str], bits: int) -> int:
    """How many they would be if none lay in another."""
    return sum(1 << bits - int(prefix.rpartition("/")[2]) for prefix in prefixes)


def table_problems(document: Document, staff: Staff) -> Iterator[Problem]:
    known = lists.tables(document, staff)
    for pointer, names in named(document):
        yield from missing_tables(document, pointer, names, known)
        yield from lists.size_problems(document, pointer, names, staff)


def named(document: Document) -> Iterator[tuple[Pointer, Sequence[str]]]:
    """Where it names tables, and which."""
    for direction, side in SIDES:
        for index, rule in enumerate(document.spec.get(direction, ())):
            yield ("spec", direction, index, side), rule.get(side, ())
    for key in ("block", "bypass"):
        yield ("spec", key), document.spec.get(key, ())


def missing_tables(
    document: Document, pointer: Pointer, names: Iterable[str], known: Mapping[str, object]
) -> Iterator[Problem]:
    for position, name in enumerate(names):
        if name not in known:
            make = f"a list of that name would be lists/{name}.txt"
            yield from missing(document, (*pointer, position), "table or list", name, known, make)
