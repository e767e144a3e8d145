"""Customer: what belongs to whom, and how much of it. Puts nothing on a host by itself.

Checked here: the quota against all jails of the customer, and that the subnet fits the locations the jails stand in.
Claimed: the subnet's number and every domain, each for one customer of the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator

from reconciler.kinds.documents import Expansion, Staff, Tenant, subnet, subnets
from reconciler.kinds.limits import size, wanted
from reconciler.model import Claim, Document, Problem, problem

JAILS = 10
"""The schema's default for spec.quota.jails."""
SIZES = {"memory": "", "disk": "; hosts without zfs know none"}
"""Limits that a quota adds up → what else is to be known of them."""


def expand(document: Document, staff: Staff, tenant: Tenant) -> Expansion:
    return Expansion(
        claims=tuple(claims(document)),
        problems=(*quota_problems(document, staff, tenant), *subnet_problems(document, staff, tenant)),
    )


def claims(document: Document) -> Iterator[Claim]:
    yield Claim("subnet", str(document.spec["subnet"]), document.path, ("spec", "subnet"))
    for index, domain in enumerate(document.spec.get("domains", ())):
        yield Claim("domain", domain, document.path, ("spec", "domains", index))


def quota_problems(document: Document, staff: Staff, tenant: Tenant) -> Iterator[Problem]:
    quota = document.spec.get("quota", {})
    most = quota.get("jails", JAILS)
    if len(tenant.jails) > most:
        yield over(document, "jails", f"{len(tenant.jails)} jails", str(most))
    ipv4 = sum("ipv4" in jail.spec for jail in tenant.jails.values())
    if ipv4 > quota.get("ipv4", 0):
        yield over(document, "ipv4", f"{ipv4} IPv4 addresses", str(quota.get("ipv4", 0)))
    for field in SIZES:
        if field in quota:
            yield from size_problems(document, staff, tenant, field, quota[field])


def size_problems(document: Document, staff: Staff, tenant: Tenant, field: str, most: str) -> Iterator[Problem]:
    limits = {name: size(wanted(jail.spec, staff), field) for name, jail in sorted(tenant.jails.items())}
    if without := [name for name, limit in limits.items() if not limit]:
        hint = f"give every jail limits.{field}, or the platform a default{SIZES[field]}"
        message = f"a {field} quota, but jails without a limit: {', '.join(without[:12])}"
        yield problem(document.path, ("spec", "quota", field), message, hint)
    elif (total := sum(limits.values())) > size({field: most}, field):
        yield over(document, field, f"jails with {spoken(total)} of {field}", most)


def spoken(total: int) -> str:
    """In the larger unit where that is exact."""
    return f"{total >> 30}Gi" if total % (1 << 30) == 0 else f"{total >> 20}Mi"


def over(document: Document, field: str, has: str, most: str) -> Problem:
    pointer = ("spec", "quota", field) if field in document.spec.get("quota", {}) else ("spec",)
    hint = "remove or shrink jails, or ask for more"
    return problem(document.path, pointer, f"{document.name} has {has}, its quota is {most}", hint)


def subnet_problems(document: Document, staff: Staff, tenant: Tenant) -> Iterator[Problem]:
    hosts = {jail.spec["host"] for jail in tenant.jails.values()}
    locations = {h.spec["location"] for name in hosts if (h := staff.find("Host", name))}
    for location in sorted(locations & set(staff.prefixes)):
        prefix = staff.prefixes[location]
        if subnet(tenant, location) is None and subnets(prefix):
            message = f"subnet {document.spec['subnet']} does not fit {prefix} of location {location}"
            yield problem(document.path, ("spec", "subnet"), message, f"take a number up to {subnets(prefix)}")
