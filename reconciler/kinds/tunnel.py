"""Tunnel: an encrypted pipe between two jails of a customer on different hosts, by spiped.

In: a Tunnel document and the customer's jails. Out: an end for each of the two hosts, and the Rules that let the one
reach the other at the pipe's port, and nobody else. Who uses the pipe connects to localhost; who answers is connected
to from localhost, so that what it offers need not be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import ip_interface
from itertools import product

from reconciler.kinds.addresses import Interface
from reconciler.kinds.documents import Expansion, Place, Staff, Tenant, missing, secret, secret_problems, single
from reconciler.model import Claim, Document, Part, Problem, Rule, Tunnel, problem

LOCALHOST = "::1"
ENDS = ("from", "to")
MOST = 16
"""Tunnels of a jail. On Linux each is a program of the host's, which no limit of the jail's holds; on FreeBSD each is
started before the jail has (jail(8), exec.timeout)."""


def expand(document: Document, staff: Staff, tenant: Tenant) -> Expansion:
    key = secret_problems(document, ("spec", "key"), document.spec["key"], tenant, "head -c 32 /dev/urandom")
    problems = (*jail_problems(document, tenant), *count_problems(document, tenant), *key)
    entrance, exit = (tenant.places.get(document.spec[end]["jail"]) for end in ENDS)
    if entrance is None or exit is None or document.spec["key"] not in tenant.secrets or problems:
        return Expansion(problems=problems)
    problems = (*place_problems(document, entrance, exit), *over_problems(document, tenant))
    problems = (*problems, *port_problems(document, tenant))
    claimed = tuple(claims(document, entrance, exit))
    if problems:
        return Expansion(problems=problems, claims=claimed)
    making = partial(parts, document, tenant, entrance, exit)
    return Expansion(frozenset({entrance.host, exit.host}), making, claims=claimed)


# ── problems ─────────────────────────────────────────────────────────────────────────────────────────────────


def jail_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    for end in ENDS:
        name = document.spec[end]["jail"]
        if name not in tenant.jails:
            yield from missing(document, ("spec", end, "jail"), "jail", name, tenant.jails)


def count_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    for end in ENDS:
        name = document.spec[end]["jail"]
        if tenant.ends[name] > MOST:
            message = f"jail {name} has {tenant.ends[name]} tunnels; at most {MOST} are accepted"
            yield problem(document.path, ("spec", end, "jail"), message, "lead several programs through one of them")


def place_problems(document: Document, entrance: Place, exit: Place) -> Iterator[Problem]:
    if entrance == exit:
        message = f"both ends are in jail {document.spec['to']['jail']}"
        yield problem(document.path, ("spec", "to", "jail"), message, "a tunnel leads to another jail")
    elif entrance.host == exit.host:
        message = f"both jails are on host {entrance.host}: they need no tunnel"
        hint = "publish the port and name the other jail in its `from`, or join the two by one of `links`"
        yield problem(document.path, ("spec", "to", "jail"), message, hint)


def over_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    """Two interfaces of one segment see each other; which cable a switch of that name is on, the documents say not."""
    if "over" not in document.spec:
        return
    for end in ENDS:
        jail = tenant.jails[document.spec[end]["jail"]]
        if not on_segment(document, end, tenant):
            message = f"jail {jail.name} has no interface on switch {document.spec['over']}"
            known = sorted({interface["switch"] for interface in jail.spec.get("interfaces", ())})
            on = f"it has one on {', '.join(known)}" if known else "give it one by `interfaces`"
            yield problem(document.path, ("spec", "over"), message, f"{on}; without `over` none is needed")
    ours, theirs = (on_segment(document, end, tenant) for end in ENDS)
    if ours and theirs and not meeting(ours, theirs):
        message = f"{ours[0]} and {theirs[0]} do not see each other"
        yield problem(document.path, ("spec", "over"), message, "give both an address in one network")


def port_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    """A program that listens on all addresses, as most do, has its port there too."""
    spec = document.spec
    if spec["port"] == spec["to"]["port"]:
        message = f"{spec['port']} is the port of {spec['to']['jail']}'s own program: the pipe cannot end there too"
        yield problem(document.path, ("spec", "port"), message, "take another port")
    for pointer, end, port in (
        (("spec", "from", "port"), "from", spec["from"]["port"]),
        (("spec", "port"), "to", spec["port"]),
    ):
        jail = tenant.jails[spec[end]["jail"]]
        if any(e["port"] == port and e.get("protocol", "tcp") == "tcp" for e in jail.spec.get("publish", ())):
            message = f"jail {jail.name} publishes {port}: a program of its own is there"
            yield problem(document.path, pointer, message, "take another port")


# ── claims and parts ─────────────────────────────────────────────────────────────────────────────────────────


def claims(document: Document, entrance: Place, exit: Place) -> Iterator[Claim]:
    spec = document.spec
    yield Claim(f"tcp port of jail {entrance.id}", str(spec["from"]["port"]), document.path, ("spec", "from", "port"))
    yield Claim(f"tcp port of jail {exit.id}", str(spec["port"]), document.path, ("spec", "port"))


def parts(document: Document, tenant: Tenant, entrance: Place, exit: Place) -> Iterator[tuple[str, Part]]:
    spec, port = document.spec, document.spec["port"]
    near, far = pipe(document, tenant)
    end = partial(Tunnel, id=f"{tenant.customer.name}--{document.name}", customer=tenant.customer.name)
    end = partial(end, key=secret(tenant, spec["key"]))
    label = f"tunnel {tenant.customer.name}--{document.name}"
    here, there = (LOCALHOST, spec["from"]["port"]), (LOCALHOST, spec["to"]["port"])
    yield entrance.host, end(jail=entrance.id, encrypts=True, listens=here, connects=(far, port))
    yield entrance.host, Rule(entrance.id, "out", (single(far),), "tcp", (port,), label)
    yield exit.host, end(jail=exit.id, encrypts=False, listens=(far, port), connects=there)
    yield exit.host, Rule(exit.id, "in", (single(near),), "tcp", (port,), label)


def pipe(document: Document, tenant: Tenant) -> tuple[str, str]:
    """The addresses between which it is: on the segment, or the jails' own."""
    if "over" not in document.spec:
        near, far = (tenant.places[document.spec[end]["jail"]].address for end in ENDS)
        return near, far
    ours, theirs = (on_segment(document, end, tenant) for end in ENDS)
    one, other = meeting(ours, theirs)[0]
    return str(one.ip), str(other.ip)


def on_segment(document: Document, end: str, tenant: Tenant) -> list[Interface]:
    interfaces = tenant.jails[document.spec[end]["jail"]].spec.get("interfaces", ())
    return [ip_interface(i["address"]) for i in interfaces if i["switch"] == document.spec["over"]]


def meeting(ours: Iterable[Interface], theirs: Iterable[Interface]) -> list[tuple[Interface, Interface]]:
    """Pairs in one network."""
    return [(one, other) for one, other in product(ours, theirs) if one.network == other.network]
