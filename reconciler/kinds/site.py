"""Site: names and the jails that serve them.

Until there is a proxy a site's backends are reached on their own IPv6 addresses, so a Site puts nothing on a host;
its names and endpoints appear in the status. Checked: the names lie in the customer's domains, and every backend
publishes its port to everybody. Claimed: each name, for one site of the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reconciler.kinds.documents import Expansion, Staff, Tenant, missing
from reconciler.model import Claim, Document, Problem, Site, problem

PORT = 80
"""The schema's default for a backend's port."""


def expand(document: Document, staff: Staff, tenant: Tenant) -> Expansion:
    problems = (*name_problems(document, tenant), *backend_problems(document, tenant))
    names = tuple(document.spec["names"])
    # a name in nobody's domain of theirs is their own mistake, and claims nothing from its owner
    own = [(index, name) for index, name in enumerate(names) if lies_in(name, tenant)]
    claims = tuple(Claim("name", name, document.path, ("spec", "names", index)) for index, name in own)
    places = tenant.places
    backends = tuple(
        (places[b["jail"]].id, places[b["jail"]].address, b.get("port", PORT))
        for b in document.spec["backends"]
        if b["jail"] in places
    )
    site = Site(document.customer, document.name, names, backends)
    return Expansion(claims=claims, sites=(site,), problems=problems)


def name_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    domains = tenant.customer.spec.get("domains", ())
    for index, name in enumerate(document.spec["names"]):
        if not lies_in(name, tenant):
            hint = f"{tenant.customer.name}'s domains are {', '.join(domains)}" if domains else "it has no domains yet"
            message = f"{name} lies in no domain of {tenant.customer.name}"
            yield problem(document.path, ("spec", "names", index), message, hint)


def lies_in(name: str, tenant: Tenant) -> bool:
    domains = tenant.customer.spec.get("domains", ())
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def backend_problems(document: Document, tenant: Tenant) -> Iterator[Problem]:
    for index, backend in enumerate(document.spec["backends"]):
        pointer = ("spec", "backends", index, "jail")
        jail = tenant.jails.get(backend["jail"])
        if jail is None:
            yield from missing(document, pointer, "jail", backend["jail"], tenant.jails)
        elif not published(jail, backend.get("port", PORT)):
            message = f"jail {jail.name} does not publish port {backend.get('port', PORT)} to everybody"
            yield problem(document.path, pointer, message, mend(jail, backend.get("port", PORT)))


def mend(jail: Document, port: int) -> str:
    """What its owner most likely meant."""
    entries: list[dict[str, Any]] = jail.spec.get("publish", [])
    open_ports = [str(e["port"]) for e in entries if published(jail, e["port"])]
    if any(e["port"] == port and "from" in e for e in entries):
        return f"it publishes it to some only: take `from` out of {jail.path}, or this backend out of the site"
    if open_ports:
        return f"it publishes {', '.join(open_ports)}: write `port: {open_ports[0]}` with this backend"
    return f"add `- port: {port}` to publish in {jail.path}"


def published(jail: Document, port: int) -> bool:
    entries: list[dict[str, Any]] = jail.spec.get("publish", [])
    return any(e["port"] == port and e.get("protocol", "tcp") == "tcp" and "from" not in e for e in entries)
