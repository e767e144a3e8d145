"""Lists of addresses in the repository, where documents name them: `lists/` is for everybody, a customer's own for it.

In: the names that a policy or a jail gives. Out: prefixes, and Problems for names that mean nothing or two things. A
name means one thing wherever it can be used, so that nobody has to know which comes first. A Tenant has staff's lists
and its own: another customer's cannot be named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from reconciler.kinds.documents import Known, Staff, Tenant, missing
from reconciler.model import Document, Pointer, Problem, problem

NOBODY = ("::/128",)
"""What a rule lets pass that names lists without an entry: no peers at all would mean everybody."""
OF_A_RULE, OF_A_CUSTOMER = 50_000, 10_000
"""Prefixes: what pf takes as one table (load.lists), and what one customer's jails may fill of all that a host holds:
when that is full no rules load there, nobody's."""
Prefixes = tuple[str, ...]


def own_problems(tenant: Tenant) -> Iterator[Problem]:
    for name, file in tenant.lists.items():
        if name in tenant.staff.lists:
            hint = f"give one of the two another name, or remove this one and use {tenant.staff.lists[name].path}"
            yield Problem(file.path, 1, 1, f"there is a list {name} of the staff's already", hint)


# ── in a policy ──────────────────────────────────────────────────────────────────────────────────────────────


def tables(policy: Document, staff: Staff) -> Mapping[str, object]:
    """What its rules may name."""
    found = Known[object]({**staff.lists, **policy.spec.get("tables", {})})
    found.broken = staff.lists.broken
    return found


def table(policy: Document, name: str, staff: Staff) -> Prefixes:
    if name in staff.lists:
        return staff.lists[name].prefixes
    return tuple(policy.spec.get("tables", {}).get(name, ()))


def joined(tables: Iterable[Prefixes]) -> Prefixes:
    """One alone stays the same object: a list may be long, and many jails' rules may name it."""
    return sum(tables, ())


def size_problems(policy: Document, pointer: Pointer, names: Iterable[str], staff: Staff) -> Iterator[Problem]:
    count = sum(len(table(policy, name, staff)) for name in names)
    if count > OF_A_RULE:
        message = f"{count:,} prefixes are named here together; at most {OF_A_RULE:,} are accepted"
        yield problem(policy.path, pointer, message, "name fewer lists, or write shorter prefixes")


# ── in a jail ────────────────────────────────────────────────────────────────────────────────────────────────


def prefixes(name: str, tenant: Tenant) -> Prefixes:
    file = tenant.known_lists.get(name)
    return file.prefixes if file else ()


def from_problems(document: Document, pointer: Pointer, peer: str, tenant: Tenant) -> Iterator[Problem]:
    """Of a name in `from`: a jail's or a list's."""
    found = tenant.known_lists
    if peer in tenant.jails and peer in found:
        message = f"{peer} is a jail and a list, {found[peer].path}"
        yield problem(document.path, pointer, message, "rename one of the two")
    elif peer not in tenant.jails and peer not in found:
        known = Known[object]({**tenant.jails, **found})
        known.broken = tenant.jails.broken | found.broken
        yield from missing(document, pointer, "jail or list", peer, known, place(tenant, peer))


def to_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    for index, entry in enumerate(document.spec.get("reach", ())):
        for position, name in enumerate(entry["to"]):
            if "/" not in name and name != "any" and name not in tenant.known_lists:
                pointer = ("spec", "reach", index, "to", position)
                if name in tenant.jails:
                    message = f"{name} is a jail, and no list"
                    hint = f"name {document.name} in `from` of what {name} publishes; that opens both ends"
                    yield problem(document.path, pointer, message, hint)
                else:
                    yield from missing(document, pointer, "list", name, tenant.known_lists, place(tenant, name))


def place(tenant: Tenant, name: str) -> str:
    return f"a list of that name would be customers/{tenant.customer.name}/lists/{name}.txt"


def sum_problems(tenant: Tenant) -> Iterator[Problem]:
    """What is named together becomes a table of its host's, which is there once however many jails name the same. A
    list of staff's by itself is everybody's table: one that grows by a script must not stop who names it."""
    shared = {frozenset((name,)) for name in tenant.staff.lists}
    named: dict[str, set[frozenset[str]]] = {}
    for jail in tenant.jails.values():
        named.setdefault(jail.spec["host"], set()).update(map(frozenset, together(jail)))
    for host, tables in sorted(named.items()):
        count = sum(len(prefixes(name, tenant)) for table in tables - shared for name in table)
        if count > OF_A_CUSTOMER:
            message = f"the lists of {tenant.customer.name}'s jails on host {host} come to {count:,} prefixes"
            hint = f"at most {OF_A_CUSTOMER:,} are accepted: name shorter lists, or the same ones together everywhere"
            yield problem(tenant.customer.path, ("metadata", "name"), message, hint)


def together(jail: Document) -> Iterator[list[str]]:
    yield from (entry["from"] for entry in jail.spec.get("publish", ()) if "from" in entry)
    yield from (entry["to"] for entry in jail.spec.get("reach", ()))
